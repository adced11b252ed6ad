//! A stretch of a file in the address space, for the kernel to send from.
//!
//! The only file with `unsafe`. Its one invariant: what is mapped is never read by weir itself, only
//! handed to system calls on sockets. A page that cannot be read, because the disk fails or the file
//! was cut short, then makes the call fail with `EFAULT`; read by weir it would end the process.
#![expect(
    unsafe_code,
    reason = "mapping files is the only way from the page cache to a socket without a copy in user space"
)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};
use std::slice;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// A read-only mapping. As bytes, exactly the stretch that was asked for.
#[derive(Debug)]
pub(super) struct Mapping {
    /// Where the page begins that the stretch begins in.
    address: NonNull<c_void>,
    /// From there to the beginning of the stretch.
    lead: usize,
    length: usize,
}

// SAFETY: the mapping is read-only memory that this value owns; nothing about it belongs to a thread.
unsafe impl Send for Mapping {}
// SAFETY: all that can be done through a shared reference is reading.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes from `offset`, all of which the file has to have. Reads nothing.
    pub(super) fn of(file: &File, offset: u64, length: usize) -> io::Result<Mapping> {
        let lead = offset % rustix::param::page_size() as u64;
        let start = offset - lead;
        // Less than a page.
        let lead = lead as usize;
        // SAFETY: no address is asked for, so the kernel puts the mapping where nothing else is.
        let address = unsafe {
            mmap(
                ptr::null_mut(),
                lead + length,
                ProtFlags::READ,
                MapFlags::SHARED,
                file,
                start,
            )
        }?;
        let address = NonNull::new(address).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping {
            address,
            lead,
            length,
        })
    }

    /// Waits until every page is in memory.
    pub(super) fn bring_in(&self) -> io::Result<()> {
        // SAFETY: these are the pages that `of` mapped, and populating them changes no byte.
        let brought = unsafe {
            madvise(
                self.address.as_ptr(),
                self.lead + self.length,
                Advice::LinuxPopulateRead,
            )
        };
        Ok(brought?)
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `of` mapped `lead + length` bytes for reading and they stay mapped while `self`
        // lives. They do not change: what is under a digest is never written to again, and of a
        // growing file only bytes behind the frontier are mapped, which are never written again.
        unsafe {
            slice::from_raw_parts(
                self.address.cast::<u8>().as_ptr().add(self.lead),
                self.length,
            )
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is what `of` mapped, and no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.address.as_ptr(), self.lead + self.length) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_stretch_begins_and_ends_anywhere() {
        let content: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        for (offset, length) in [(0, 20_000), (1, 1), (4095, 2), (4096, 4096), (5000, 15_000)] {
            let mapping = Mapping::of(&file, offset as u64, length).unwrap();
            mapping.bring_in().unwrap();
            assert_eq!(mapping.as_ref(), &content[offset..offset + length]);
        }
    }

    #[test]
    fn bytes_that_the_file_does_not_have_cannot_be_brought_in() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"short").unwrap();
        let mapping = Mapping::of(&file, 0, 1 << 20).unwrap();
        assert!(mapping.bring_in().is_err());
    }
}
