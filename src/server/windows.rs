//! Windows of files that several responses send at the same time, mapped once for all of them.
//!
//! To ask for a window's pages, to map them one after the other and to take all of it down again is a
//! third of what sending it costs. A window stays while two responses at least send its file, and
//! while it is among the last [`WINDOWS_MAX`] that were used. So nothing stays mapped for connections
//! that ask for nothing, and a file that was removed is given up when its last responses end.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

/// Of all files together: 256 MiB of address space, and half a MiB of page tables.
const WINDOWS_MAX: usize = 64;

/// Device and inode. A mapping keeps its file, so neither is given to another one meanwhile.
type FileId = (u64, u64);

/// What all responses share.
#[derive(Debug, Default)]
pub(super) struct Windows {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// How many responses send each file.
    senders: HashMap<FileId, usize>,
    /// By file and offset.
    kept: HashMap<(FileId, u64), Kept>,
    /// Counts uses.
    uses: u64,
}

#[derive(Debug)]
struct Kept {
    bytes: Bytes,
    last_use: u64,
}

impl Windows {
    /// For a response that sends `file`.
    pub(super) fn join(self: &Arc<Self>, file: &File) -> io::Result<Sender> {
        let metadata = file.metadata()?;
        let file = (metadata.dev(), metadata.ino());
        *self.table().senders.entry(file).or_default() += 1;
        Ok(Sender {
            windows: Arc::clone(self),
            file,
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table
            .lock()
            .expect("nothing panics while it holds the table of windows")
    }
}

/// One response's part in the windows of its file.
#[derive(Debug)]
pub(super) struct Sender {
    windows: Arc<Windows>,
    file: FileId,
}

impl Sender {
    /// The window from `start`, if it is there and has `length` bytes at least.
    pub(super) fn find(&self, start: u64, length: usize) -> Option<Bytes> {
        let mut table = self.windows.table();
        table.uses += 1;
        let now = table.uses;
        let kept = table.kept.get_mut(&(self.file, start))?;
        if kept.bytes.len() < length {
            return None;
        }
        kept.last_use = now;
        Some(kept.bytes.clone())
    }

    /// Keeps a window from `start` for the other responses, if there are any.
    pub(super) fn keep(&self, start: u64, bytes: &Bytes) {
        // Unmapping takes a while: not under the lock.
        let (_replaced, _oldest);
        let mut table = self.windows.table();
        if table.senders.get(&self.file).is_none_or(|count| *count < 2) {
            return;
        }
        let kept = Kept {
            bytes: bytes.clone(),
            last_use: table.uses,
        };
        _replaced = table.kept.insert((self.file, start), kept);
        _oldest = (table.kept.len() > WINDOWS_MAX).then(|| table.take_oldest());
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut left = Vec::new();
        let mut table = self.windows.table();
        let senders = table.senders.entry(self.file).or_default();
        *senders = senders.saturating_sub(1);
        let senders = *senders;
        if senders == 0 {
            table.senders.remove(&self.file);
        }
        if senders < 2 {
            let of_file = |(file, _): &(FileId, u64), _: &mut Kept| *file == self.file;
            left.extend(table.kept.extract_if(of_file));
        }
        drop(table);
        drop(left);
    }
}

impl Table {
    fn take_oldest(&mut self) -> Option<Kept> {
        let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.last_use);
        let place = oldest.map(|(place, _)| *place)?;
        self.kept.remove(&place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that are somebody's for as long as the returned count is above one.
    fn window(length: usize) -> (Bytes, Arc<Vec<u8>>) {
        struct Owner(Arc<Vec<u8>>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let content = Arc::new(vec![7; length]);
        (Bytes::from_owner(Owner(Arc::clone(&content))), content)
    }

    fn is_mapped(content: &Arc<Vec<u8>>) -> bool {
        Arc::strong_count(content) > 1
    }

    #[test]
    fn a_response_that_is_alone_leaves_nothing_mapped() {
        let windows = Arc::new(Windows::default());
        let sender = windows.join(&tempfile::tempfile().unwrap()).unwrap();
        let (bytes, content) = window(10);
        sender.keep(0, &bytes);
        assert_eq!(sender.find(0, 10), None);
        drop(bytes);
        assert!(!is_mapped(&content));
    }

    #[test]
    fn what_one_mapped_the_other_sends_until_it_is_alone() {
        let windows = Arc::new(Windows::default());
        let (file, another) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let one = windows.join(&file).unwrap();
        // Opened anew, as each request does.
        let other = windows.join(&file.try_clone().unwrap()).unwrap();
        let stranger = windows.join(&another).unwrap();
        let (bytes, content) = window(10);
        one.keep(4096, &bytes);
        drop(bytes);
        assert_eq!(other.find(4096, 10).unwrap().as_ptr(), content.as_ptr());
        assert_eq!(other.find(4096, 11), None, "a file that was shorter then");
        assert_eq!(other.find(0, 10), None);
        assert_eq!(stranger.find(4096, 10), None);
        assert!(is_mapped(&content));
        drop(one);
        assert!(!is_mapped(&content));
    }

    #[test]
    fn only_so_many_stay_and_the_one_not_used_for_longest_goes() {
        let windows = Arc::new(Windows::default());
        let file = tempfile::tempfile().unwrap();
        let one = windows.join(&file).unwrap();
        let _other = windows.join(&file).unwrap();
        let contents: Vec<_> = (0..=WINDOWS_MAX as u64)
            .map(|start| {
                // The first one is in use all the time.
                one.find(0, 1);
                let (bytes, content) = window(1);
                one.keep(start, &bytes);
                content
            })
            .collect();
        let gone = |start: usize| !is_mapped(&contents[start]);
        let gone: Vec<_> = (0..=WINDOWS_MAX).filter(|start| gone(*start)).collect();
        assert_eq!(gone, [1]);
    }
}
