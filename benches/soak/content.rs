//! Blobs of any size that take no memory: stamped copies of one block of noise, written and compared
//! where they are needed.

use fastrand::Rng;
use weir::oci::{Algorithm, Hasher};

const BLOCK_BYTES: usize = 64 << 10;
const STAMP_BYTES: usize = 8;

#[derive(Debug)]
pub(crate) struct Content {
    block: Vec<u8>,
    pub(crate) length: u64,
    pub(crate) digest: String,
}

impl Content {
    pub(crate) fn new(seed: u64, length: u64) -> Self {
        let mut block = vec![0; BLOCK_BYTES];
        Rng::with_seed(seed).fill(&mut block);
        let mut content = Content {
            block,
            length,
            digest: String::new(),
        };
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut piece = vec![0; BLOCK_BYTES];
        let mut at = 0;
        while at < length {
            let bytes = piece
                .len()
                .min(usize::try_from(length - at).unwrap_or(usize::MAX));
            content.write(at, &mut piece[..bytes]);
            hasher.update(&piece[..bytes]);
            at += bytes as u64;
        }
        content.digest = hasher.finish().to_string();
        content
    }

    /// The bytes from `at` on.
    pub(crate) fn write(&self, at: u64, into: &mut [u8]) {
        self.each(at, into.len(), |range, expected| {
            into[range].copy_from_slice(expected);
            true
        });
    }

    /// Whether these are the bytes from `at` on.
    pub(crate) fn is(&self, at: u64, bytes: &[u8]) -> bool {
        at + bytes.len() as u64 <= self.length
            && self.each(at, bytes.len(), |range, expected| bytes[range] == *expected)
    }

    /// Goes through `length` bytes from `at` on, in runs, for as long as `run` says so.
    fn each(
        &self,
        at: u64,
        length: usize,
        mut run: impl FnMut(std::ops::Range<usize>, &[u8]) -> bool,
    ) -> bool {
        let mut done = 0;
        while done < length {
            let position = at + done as u64;
            let within = (position % BLOCK_BYTES as u64) as usize;
            let mut stamp: [u8; STAMP_BYTES] = self.block[..STAMP_BYTES]
                .try_into()
                .expect("a block is longer than its stamp");
            let number = (position / BLOCK_BYTES as u64).to_le_bytes();
            stamp
                .iter_mut()
                .zip(number)
                .for_each(|(byte, mark)| *byte ^= mark);
            let source = if within < STAMP_BYTES {
                &stamp[within..]
            } else {
                &self.block[within..]
            };
            let bytes = source.len().min(length - done);
            if !run(done..done + bytes, &source[..bytes]) {
                return false;
            }
            done += bytes;
        }
        true
    }
}
