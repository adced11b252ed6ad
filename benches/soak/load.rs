//! Clients that pull without a pause, warm and cold, each byte compared; and what became of it.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::content::Content;
use crate::site::{Image, MANIFEST_TYPE, Site};

/// Between two pulls of one client, so that there is a load and no siege.
const PAUSE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of a body.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nobody took the connection, or it ended before an answer.
    NoAnswer(io::Error),
    Status(u16, String),
    /// The answer began and did not come to its end.
    Cut,
    Wrong,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NoAnswer(error) => write!(f, "no answer: {error}"),
            Trouble::Status(status, said) => write!(f, "status {status}: {said}"),
            Trouble::Cut => f.write_str("a body was cut"),
            Trouble::Wrong => f.write_str("a wrong byte"),
        }
    }
}

/// One registry of weir's, and what is behind it.
pub(crate) struct Place {
    pub(crate) registry: &'static str,
    pub(crate) site: Arc<Site>,
    pub(crate) warm: Vec<Arc<Image>>,
}

/// Images of each place that are pulled again and again.
const WARM_IMAGES: u64 = 5;

impl Place {
    /// `at`: which place it is, so that no two have the same content.
    pub(crate) fn new(
        at: usize,
        registry: &'static str,
        site: Arc<Site>,
        layer_bytes: u64,
    ) -> Self {
        let warm = (0..WARM_IMAGES).map(|number| {
            let seed = (at as u64 + 1) * 100_000_000 + 2 * number;
            Image::new(&format!("warm/{number}"), seed, layer_bytes)
        });
        let warm = warm.collect();
        Place {
            registry,
            site,
            warm,
        }
    }
}

pub(crate) struct Load {
    pub(crate) weir: SocketAddr,
    pub(crate) places: Vec<Place>,
    pub(crate) layer_bytes: u64,
    /// Bytes a second that a client takes of a layer.
    pub(crate) rate: Option<u64>,
    next: AtomicU64,
    stop: AtomicBool,
    pub(crate) counts: Counts,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) cold: AtomicU64,
    pub(crate) warm: AtomicU64,
    pub(crate) bodies: AtomicU64,
    pub(crate) failed: Mutex<Vec<(Instant, Trouble)>>,
}

impl Load {
    pub(crate) fn new(weir: SocketAddr, places: Vec<Place>, layer_bytes: u64) -> Self {
        Load {
            weir,
            places,
            layer_bytes,
            rate: None,
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            counts: Counts::default(),
        }
    }

    /// What `work` gives, done while so many clients pull.
    pub(crate) fn during<T>(&self, cold: usize, warm: usize, work: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            (0..cold).for_each(|_| drop(scope.spawn(|| self.pull_cold())));
            (0..warm).for_each(|_| drop(scope.spawn(|| self.pull_warm())));
            let done = work();
            self.end();
            done
        })
    }

    /// Brings the warm images into the cache.
    pub(crate) fn warm_up(&self) -> Result<(), Trouble> {
        for place in &self.places {
            for image in &place.warm {
                place.site.push(image);
                self.pull(place, image, false)?;
            }
        }
        Ok(())
    }

    /// Pulls images that were never asked for until `end`; a failure does not end it.
    pub(crate) fn pull_cold(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let place = &self.places[number as usize % self.places.len()];
            let name = format!("cold/{number}");
            let image = Image::new(&name, 1000 + 2 * number, self.layer_bytes);
            place.site.push(&image);
            self.note(
                self.pull(place, &image, number.is_multiple_of(2)),
                &self.counts.cold,
            );
        }
    }

    /// The same with images that are cached.
    pub(crate) fn pull_warm(&self) {
        for number in 0.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let place = &self.places[number % self.places.len()];
            let image = &place.warm[number / self.places.len() % place.warm.len()];
            self.note(
                self.pull(place, image, number.is_multiple_of(3)),
                &self.counts.warm,
            );
        }
    }

    pub(crate) fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    fn note(&self, pulled: Result<(), Trouble>, count: &AtomicU64) {
        match pulled {
            Ok(()) => {
                count.fetch_add(1, Ordering::SeqCst);
            }
            Err(trouble) => self.failures().push((Instant::now(), trouble)),
        }
        thread::sleep(PAUSE);
    }

    pub(crate) fn failures(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, Trouble)>> {
        let failed = self.counts.failed.lock();
        failed.unwrap_or_else(PoisonError::into_inner)
    }

    /// As docker does it with `asks_first`, and as podman does it without.
    fn pull(&self, place: &Place, image: &Image, asks_first: bool) -> Result<(), Trouble> {
        let base = format!("/v2/{}/{}", place.registry, image.repository);
        let mut reference = "1";
        if asks_first {
            ask(self.weir, "HEAD", &format!("{base}/manifests/1"))?;
            reference = &image.digest;
        }
        let (mut body, length) = ask(self.weir, "GET", &format!("{base}/manifests/{reference}"))?;
        let mut manifest = vec![0; usize::try_from(length).unwrap_or(0)];
        body.read_exact(&mut manifest).map_err(|_| Trouble::Cut)?;
        if manifest != image.manifest.as_bytes() {
            return Err(Trouble::Wrong);
        }
        self.counts.bodies.fetch_add(1, Ordering::SeqCst);
        for blob in &image.blobs {
            let path = format!("{base}/blobs/{}", blob.digest);
            let (body, _) = ask(self.weir, "GET", &path)?;
            read(body, blob, blob.length, self.rate)?;
            self.counts.bodies.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// An answer with status 200: its body, and how long that is.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
) -> Result<(BufReader<TcpStream>, u64), Trouble> {
    let (status, mut reader, length) =
        exchange(address, method, path).map_err(Trouble::NoAnswer)?;
    if status == 200 {
        return Ok((reader, length));
    }
    let mut said = String::new();
    // What can be read of it.
    let _ = reader
        .by_ref()
        .take(length.min(2000))
        .read_to_string(&mut said);
    Err(Trouble::Status(status, said))
}

pub(crate) fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
) -> io::Result<(u16, BufReader<TcpStream>, u64)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\naccept: {MANIFEST_TYPE}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let length = head.to_ascii_lowercase();
    let length = length.split_once("\r\ncontent-length: ");
    let length = length.and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok());
    match status {
        Some(status) => Ok((status, reader, length.unwrap_or(0))),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Compares the first `bytes` of a blob.
pub(crate) fn read(
    mut body: impl Read,
    blob: &Content,
    bytes: u64,
    rate: Option<u64>,
) -> Result<(), Trouble> {
    let (began, mut at, mut piece) = (Instant::now(), 0, vec![0; 64 << 10]);
    while at < bytes {
        let read = match body.read(&mut piece) {
            Ok(0) | Err(_) => return Err(Trouble::Cut),
            Ok(read) => read,
        };
        if !blob.is(at, &piece[..read]) {
            return Err(Trouble::Wrong);
        }
        at += read as u64;
        if let Some(rate) = rate {
            let due = began + Duration::from_secs_f64(at as f64 / rate as f64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    Ok(())
}
