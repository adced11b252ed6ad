//! A registry that has blobs and nothing else, at a limited rate, with breaks where they are wanted.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use weir::oci::{Algorithm, Digest};

use crate::content::Content;

const PIECE_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    blobs: HashMap<String, Arc<Content>>,
    manifests: Mutex<HashMap<String, Vec<u8>>>,
    /// Bytes a second, over all connections.
    rate: Option<u64>,
    due: Mutex<Instant>,
    /// Connections end when so many bytes have been sent in all.
    breaks: Mutex<Vec<u64>>,
    pub(crate) sent: AtomicU64,
    /// GETs of blobs that were answered.
    pub(crate) transfers: AtomicU64,
}

impl Upstream {
    pub(crate) fn start(
        blobs: impl IntoIterator<Item = Arc<Content>>,
        rate: Option<u64>,
        breaks: Vec<u64>,
    ) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let upstream = Arc::new(Upstream {
            address: listener.local_addr()?,
            blobs: blobs
                .into_iter()
                .map(|blob| (blob.digest.clone(), blob))
                .collect(),
            manifests: Mutex::default(),
            rate,
            due: Mutex::new(Instant::now()),
            breaks: Mutex::new(breaks),
            sent: AtomicU64::new(0),
            transfers: AtomicU64::new(0),
        });
        let serving = Arc::clone(&upstream);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let upstream = Arc::clone(&serving);
                // A client that goes away ends its connection, which is nobody's trouble.
                thread::spawn(move || upstream.serve(stream));
            }
        });
        Ok(upstream)
    }

    /// Gives the digest.
    pub(crate) fn put_manifest(&self, manifest: Vec<u8>) -> String {
        let digest = Digest::of(Algorithm::Sha256, &manifest).to_string();
        let mut manifests = self
            .manifests
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        manifests.insert(digest.clone(), manifest);
        digest
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        each_request(stream, |head, stream| self.answer(head, stream))
    }

    fn answer(&self, head: &str, stream: &mut TcpStream) -> io::Result<()> {
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let digest = path.rsplit('/').next().unwrap_or("");
        let manifests = self
            .manifests
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(manifest) = manifests.get(digest) {
            let media_type = "application/vnd.oci.image.manifest.v1+json";
            let length = manifest.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n"
            )?;
            return stream.write_all(manifest);
        }
        drop(manifests);
        let Some(blob) = self.blobs.get(digest) else {
            let status = if path == "/v2/" {
                "200 OK"
            } else {
                "404 Not Found"
            };
            return write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        };
        let (status, first, last) = match range(head) {
            Some((first, last)) => {
                let last = last.unwrap_or(blob.length - 1).min(blob.length - 1);
                ("206 Partial Content", first, last)
            }
            None => ("200 OK", 0, blob.length - 1),
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\ncontent-range: bytes {first}-{last}/{}\r\naccept-ranges: bytes\r\netag: \"{}\"\r\n\r\n",
            last + 1 - first,
            blob.length,
            &digest[7..23],
        )?;
        if method == "HEAD" {
            return Ok(());
        }
        self.transfers.fetch_add(1, Ordering::SeqCst);
        self.send(blob, first, last + 1, stream)
    }

    fn send(
        &self,
        blob: &Content,
        mut at: u64,
        end: u64,
        stream: &mut TcpStream,
    ) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        while at < end {
            let bytes = piece
                .len()
                .min(usize::try_from(end - at).unwrap_or(usize::MAX));
            blob.write(at, &mut piece[..bytes]);
            self.keep_rate(bytes as u64);
            stream.write_all(&piece[..bytes])?;
            at += bytes as u64;
            let sent = self.sent.fetch_add(bytes as u64, Ordering::SeqCst) + bytes as u64;
            let mut breaks = self.breaks.lock().unwrap_or_else(PoisonError::into_inner);
            if breaks.first().is_some_and(|place| sent >= *place) {
                breaks.remove(0);
                stream.shutdown(std::net::Shutdown::Both)?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(())
    }

    fn keep_rate(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let due = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
            *due = (*due).max(Instant::now()) + cost;
            *due
        };
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Has the head of each request answered, until the client leaves.
pub(crate) fn each_request(
    mut stream: TcpStream,
    answer: impl Fn(&str, &mut TcpStream) -> io::Result<()>,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        answer(&head, &mut stream)?;
    }
}

fn range(head: &str) -> Option<(u64, Option<u64>)> {
    let head = head.to_ascii_lowercase();
    let (_, rest) = head.split_once("\r\nrange: bytes=")?;
    let (first, rest) = rest.split_once('-')?;
    let (last, _) = rest.split_once("\r\n")?;
    Some((first.parse().ok()?, last.parse().ok()))
}
