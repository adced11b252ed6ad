//! A client that compares every byte it gets, reads as fast or slow as it is told, and may leave.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::content::Content;

/// How a client behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Bytes a second.
    pub(crate) rate: Option<u64>,
    pub(crate) leaves_after: Option<u64>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Got {
    Whole,
    Left,
    /// The connection ended before the body did.
    Cut,
    Status(u16),
    /// A byte that is not the blob's.
    Wrong,
}

pub(crate) fn get(address: SocketAddr, blob: &Content, manner: Manner) -> io::Result<Got> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let request = format!(
        "GET /v2/soak/blobs/blobs/{} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n",
        blob.digest
    );
    io::Write::write_all(&mut stream, request.as_bytes())?;
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(Got::Cut);
        }
    }
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    match status {
        Some(200) => read(reader, blob, manner),
        Some(status) => Ok(Got::Status(status)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn read(mut reader: impl Read, blob: &Content, manner: Manner) -> io::Result<Got> {
    let began = Instant::now();
    let mut piece = vec![0; 256 << 10];
    let mut at = 0;
    while at < blob.length {
        let bytes = match reader.read(&mut piece) {
            Ok(0) | Err(_) => return Ok(Got::Cut),
            Ok(bytes) => bytes,
        };
        if !blob.is(at, &piece[..bytes]) {
            return Ok(Got::Wrong);
        }
        at += bytes as u64;
        if manner.leaves_after.is_some_and(|after| at >= after) {
            return Ok(Got::Left);
        }
        if let Some(rate) = manner.rate {
            let due = began + Duration::from_secs_f64(at as f64 / rate as f64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    Ok(Got::Whole)
}
