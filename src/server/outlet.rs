//! How bytes leave a file: mapped, so that the kernel copies them straight from the page cache to
//! the socket, or through a buffer, where weir has to see them itself or they come from the disk.
//!
//! The disk is never waited for on an async worker: what is not in memory is read by a thread that
//! may block. From then on that thread reads all of the body, also what the kernel has read ahead:
//! the first to touch what has come from the disk pays for it, and on a worker everybody waits.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::buffers::Buffers;
use super::mapping::Mapping;
use super::readers::Readers;
use super::windows::{Sender, Windows};

/// What is mapped at once, and where mappings end: at multiples of it. Measured: smaller ones cost
/// more, in page tables and in switches between sender and receiver, bigger ones gain nothing.
const WINDOW_BYTES: u64 = 4 << 20;
/// The same where the disk has to be waited for, which holds the lock of the address space while it
/// lasts: only where nothing else can be done.
const COLD_WINDOW_BYTES: u64 = 1 << 20;
/// Below this, copying costs less than mapping, as long as there are buffers to copy into.
const MAP_FROM_BYTES: u64 = 1 << 20;
const MAP_WITHOUT_BUFFERS_FROM_BYTES: u64 = 64 << 10;
/// How far apart the pages are that are asked whether they are in memory. Files are read and
/// forgotten in greater pieces.
const PROBE_BYTES: u64 = 64 << 10;

/// What all outlets share.
#[derive(Debug, Clone)]
pub(super) struct Outlets {
    buffers: Arc<Buffers>,
    readers: Arc<Readers>,
    windows: Arc<Windows>,
}

impl Outlets {
    pub(super) fn new() -> Outlets {
        Outlets {
            buffers: Arc::default(),
            readers: Arc::new(Readers::new()),
            windows: Arc::default(),
        }
    }

    /// For a connection whose bytes go to the kernel as they are.
    pub(super) fn to_socket(&self) -> Outlet {
        Outlet {
            shared: self.clone(),
            maps: true,
            can_ask: true,
            growing: false,
            waited: false,
            sending: None,
        }
    }

    /// For a connection whose bytes are read by weir before they go, to be encrypted say.
    pub(super) fn to_reader(&self) -> Outlet {
        Outlet {
            maps: false,
            ..self.to_socket()
        }
    }
}

/// The ways from files to one response.
#[derive(Debug)]
pub(super) struct Outlet {
    shared: Outlets,
    maps: bool,
    /// Whether the file system can say "not in memory" instead of waiting for the disk.
    can_ask: bool,
    /// Whether the file is still being written. What there is of it was there a moment ago; a page is
    /// waited for only while the next bytes are put into it.
    growing: bool,
    /// Whether the disk had to be waited for.
    waited: bool,
    /// The file that was mapped last, and the part in what others have mapped of it.
    sending: Option<(Arc<File>, Sender)>,
}

impl Outlet {
    /// Whether what comes next is of a file that is still being written.
    pub(super) fn set_growing(&mut self, growing: bool) {
        self.growing = growing;
    }

    /// The first bytes of a stretch of `file`; as many as are good to send at once. Empty where the
    /// file ends.
    pub(super) async fn take(
        &mut self,
        file: &Arc<File>,
        offset: u64,
        length: u64,
    ) -> io::Result<Bytes> {
        let map_from = match self.shared.buffers.has_big() {
            true => MAP_FROM_BYTES,
            false => MAP_WITHOUT_BUFFERS_FROM_BYTES,
        };
        if self.maps && length >= map_from && !self.leaves_to_readers() {
            match self.map(file, offset, length).await {
                Ok(Some(bytes)) => return Ok(bytes),
                Ok(None) => {}
                // This file system or kernel does not do it; what is wrong with the disk shows
                // again when it is read.
                Err(_) => self.maps = false,
            }
        }
        self.read(file, offset, length).await
    }

    fn leaves_to_readers(&self) -> bool {
        self.waited && self.shared.buffers.has_big()
    }

    /// `None`: better read than mapped.
    async fn map(
        &mut self,
        file: &Arc<File>,
        offset: u64,
        length: u64,
    ) -> io::Result<Option<Bytes>> {
        let window = window(offset, length, WINDOW_BYTES);
        let lead = (offset % WINDOW_BYTES) as usize;
        let start = offset - lead as u64;
        if let Some(bytes) = self.sender(file)?.find(start, lead + window) {
            return Ok(Some(bytes.slice(lead..lead + window)));
        }
        if self.is_in_memory(file, offset, window as u64)? {
            let bytes = Bytes::from_owner(Mapping::of(file, offset, window)?);
            if lead == 0 {
                self.sender(file)?.keep(start, &bytes);
            }
            return Ok(Some(bytes));
        }
        if self.can_ask {
            self.begin_to_wait(file);
            if self.leaves_to_readers() {
                return Ok(None);
            }
        }
        let window = self::window(offset, length, COLD_WINDOW_BYTES);
        let (file, behind) = (file.clone(), offset + window as u64);
        let bringing = self.shared.readers.run(move || {
            let mapping = Mapping::of(&file, offset, window)?;
            // The disk goes on reading while this window is being sent. It is only advice.
            let ahead = NonZeroU64::new(COLD_WINDOW_BYTES);
            let _ = rustix::fs::fadvise(&file, behind, ahead, Advice::WillNeed);
            mapping.bring_in()?;
            Ok(mapping)
        });
        Ok(Some(Bytes::from_owner(bringing.await?)))
    }

    fn begin_to_wait(&mut self, file: &File) {
        if !self.waited && !self.growing {
            self.waited = true;
            // The kernel reads further ahead. It is only advice.
            let _ = rustix::fs::fadvise(file, 0, None, Advice::Sequential);
        }
    }

    fn sender(&mut self, file: &Arc<File>) -> io::Result<&Sender> {
        let sending = match self.sending.take() {
            Some(sending) if Arc::ptr_eq(&sending.0, file) => sending,
            Some(_) | None => (Arc::clone(file), self.shared.windows.join(file)?),
        };
        Ok(&self.sending.insert(sending).1)
    }

    /// Asks some pages of the stretch.
    fn is_in_memory(&mut self, file: &File, offset: u64, length: u64) -> io::Result<bool> {
        let last = offset + length - 1;
        let mut at = offset;
        while self.can_ask {
            match self.read_now(file, at, &mut [0])? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(_) if at == last => return Ok(true),
                Some(_) => at = (at + PROBE_BYTES).min(last),
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    async fn read(&mut self, file: &Arc<File>, offset: u64, length: u64) -> io::Result<Bytes> {
        let mut buffer = self.shared.buffers.take(length);
        let now = match self.waited {
            true => None,
            false => self.read_now(file, offset, buffer.space(length))?,
        };
        let (mut buffer, filled) = match now {
            Some(filled) => (buffer, filled),
            None => {
                if self.can_ask {
                    self.begin_to_wait(file);
                }
                let file = file.clone();
                let reading = self.shared.readers.run(move || {
                    let filled = file.read_at(buffer.space(length), offset)?;
                    Ok((buffer, filled))
                });
                reading.await?
            }
        };
        buffer.set_filled(filled);
        Ok(Bytes::from_owner(buffer))
    }

    /// Reads what is in the page cache, without a thread of its own for what takes microseconds.
    /// `None`: the disk has to be waited for.
    fn read_now(
        &mut self,
        file: &File,
        offset: u64,
        space: &mut [u8],
    ) -> io::Result<Option<usize>> {
        if !self.can_ask {
            return Ok(None);
        }
        match preadv2(
            file,
            &mut [IoSliceMut::new(space)],
            offset,
            ReadWriteFlags::NOWAIT,
        ) {
            Ok(filled) => Ok(Some(filled)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.can_ask = false;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// How much of a stretch is in the window that it begins in.
fn window(offset: u64, length: u64, window_bytes: u64) -> usize {
    let left = window_bytes - offset % window_bytes;
    // Not more than a window, which fits.
    left.min(length) as usize
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LENGTH: usize = 3 << 20;

    fn file_of(content: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Arc::new(file)
    }

    fn content() -> Vec<u8> {
        (0..LENGTH).map(|n| (n % 251) as u8).collect()
    }

    /// What comes from there to `end`, and the longest piece of it.
    async fn stretch(
        outlet: &mut Outlet,
        file: &Arc<File>,
        offset: usize,
        end: usize,
    ) -> (Vec<u8>, usize) {
        let (mut came, mut longest) = (Vec::new(), 0);
        while offset + came.len() < end {
            let at = offset + came.len();
            let taken = outlet.take(file, at as u64, (end - at) as u64).await;
            let bytes = taken.unwrap();
            assert!(!bytes.is_empty());
            longest = longest.max(bytes.len());
            came.extend_from_slice(&bytes);
        }
        (came, longest)
    }

    async fn all_of(outlet: &mut Outlet, file: &Arc<File>) -> (Vec<u8>, usize) {
        stretch(outlet, file, 0, LENGTH).await
    }

    #[tokio::test]
    async fn what_is_in_memory_is_mapped() {
        let content = content();
        let mut outlet = Outlets::new().to_socket();
        let (came, longest) = all_of(&mut outlet, &file_of(&content)).await;
        assert!(came == content);
        assert!(longest >= 1 << 20, "mapped, not read: {longest}");
        assert!(!outlet.waited);
    }

    #[tokio::test]
    async fn a_body_that_waited_for_the_disk_is_read_by_the_readers_to_its_end() {
        let content = content();
        let file = file_of(&content);
        let outlets = Outlets::new();
        for mut outlet in [outlets.to_socket(), outlets.to_reader()] {
            outlet.begin_to_wait(&file);
            let (came, longest) = all_of(&mut outlet, &file).await;
            assert!(came == content);
            assert!(longest < 1 << 20, "read, not mapped: {longest}");
        }
    }

    #[tokio::test]
    async fn it_is_mapped_where_the_buffers_have_run_out() {
        let content = content();
        let file = file_of(&content);
        let outlets = Outlets::new();
        let mut lent = Vec::new();
        while outlets.buffers.has_big() {
            lent.push(outlets.buffers.take(u64::MAX));
        }
        let mut outlet = outlets.to_socket();
        outlet.begin_to_wait(&file);
        let (came, longest) = all_of(&mut outlet, &file).await;
        assert!(came == content);
        assert!(longest >= 1 << 20, "mapped, not read: {longest}");
    }

    #[tokio::test]
    async fn a_file_that_is_still_written_is_not_left_to_the_readers() {
        let content = content();
        let file = file_of(&content);
        let mut outlet = Outlets::new().to_socket();
        outlet.set_growing(true);
        outlet.begin_to_wait(&file);
        let (came, longest) = all_of(&mut outlet, &file).await;
        assert!(came == content);
        assert!(longest >= 1 << 20, "mapped, not read: {longest}");
    }

    #[tokio::test]
    async fn responses_that_share_windows_get_the_bytes_that_they_ask_for() {
        let mut content: Vec<u8> = (0..9_500_000u32).map(|at| (at / 7 % 251) as u8).collect();
        let mut written = tempfile::tempfile().unwrap();
        written.write_all(&content).unwrap();
        let outlets = Outlets::new();
        let mut each = [0, 1, 2].map(|_| {
            let file = Arc::new(written.try_clone().unwrap());
            (outlets.to_socket(), file)
        });
        for _ in 0..2 {
            let length = content.len();
            for (offset, end) in [
                (0, length),
                (1, 5_000_000),
                (4 << 20, length),
                (6 << 20, 8 << 20),
            ] {
                for (outlet, file) in &mut each {
                    let (bytes, _) = stretch(outlet, file, offset, end).await;
                    assert!(bytes == content[offset..end], "{offset}..{end} of {length}");
                }
            }
            // The last window was shorter when it was kept than it is in the next round.
            written.write_all(&content[..1_500_000]).unwrap();
            content.extend_from_within(..1_500_000);
        }
        let mut pointers = Vec::new();
        for (outlet, file) in &mut each {
            pointers.push(outlet.take(file, 0, 4 << 20).await.unwrap().as_ptr());
        }
        assert_eq!(pointers, [pointers[0]; 3], "mapped once");
    }
}
