//! A registry with images, whose passwords change: it wants Basic, or tokens of its own service.
//!
//! A password that was replaced is taken for a while longer, as real registries do it: there the new
//! token is made first, and the old one is revoked when nothing uses it any more.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use weir::oci::{Algorithm, Digest};

use crate::content::Content;
use crate::upstream::each_request;

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const USER: &str = "bot";
const PIECE_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Basic,
    Bearer,
}

/// An image of one manifest, which is its own name's only tag.
pub(crate) struct Image {
    pub(crate) repository: String,
    pub(crate) manifest: String,
    pub(crate) digest: String,
    /// The config first.
    pub(crate) blobs: Vec<Arc<Content>>,
}

impl Image {
    pub(crate) fn new(repository: &str, seed: u64, layer_bytes: u64) -> Arc<Image> {
        let blobs = [
            Arc::new(Content::new(seed, 500)),
            Arc::new(Content::new(seed + 1, layer_bytes)),
        ];
        let [config, layer] = &blobs;
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]}}"#,
            config.digest, config.length, layer.digest, layer.length
        );
        Arc::new(Image {
            repository: repository.to_owned(),
            digest: Digest::of(Algorithm::Sha256, manifest.as_bytes()).to_string(),
            manifest,
            blobs: blobs.to_vec(),
        })
    }
}

pub(crate) struct Site {
    scheme: Scheme,
    /// The same registry at two addresses.
    pub(crate) addresses: [SocketAddr; 2],
    /// Bytes a second for each transfer of a blob.
    rate: Option<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    images: HashMap<String, Arc<Image>>,
    blobs: HashMap<String, Arc<Content>>,
    /// Each with the moment from which it is refused.
    passwords: Vec<(String, Option<Instant>)>,
    /// When each password was last shown.
    shown: HashMap<String, Vec<Instant>>,
    tokens: u64,
    refused: u64,
    /// Where transfers began that did not begin at the front.
    resumed_at: Vec<u64>,
}

impl Site {
    pub(crate) fn start(
        scheme: Scheme,
        password: &str,
        rate: Option<u64>,
    ) -> io::Result<Arc<Self>> {
        let listeners = [
            TcpListener::bind("127.0.0.1:0")?,
            TcpListener::bind("127.0.0.1:0")?,
        ];
        let site = Arc::new(Site {
            scheme,
            addresses: [listeners[0].local_addr()?, listeners[1].local_addr()?],
            rate,
            state: Mutex::new(State {
                passwords: vec![(password.to_owned(), None)],
                ..State::default()
            }),
        });
        for listener in listeners {
            let serving = Arc::clone(&site);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let site = Arc::clone(&serving);
                    // A client that goes away ends its connection, which is nobody's trouble.
                    thread::spawn(move || site.serve(stream));
                }
            });
        }
        Ok(site)
    }

    pub(crate) fn push(&self, image: &Arc<Image>) {
        let mut state = self.state();
        let blobs = image.blobs.iter().cloned();
        state
            .blobs
            .extend(blobs.map(|blob| (blob.digest.clone(), blob)));
        state
            .images
            .insert(image.repository.clone(), Arc::clone(image));
    }

    /// The new password counts from now on; those before it for `grace` longer.
    pub(crate) fn change_password(&self, password: &str, grace: Duration) {
        let until = Instant::now() + grace;
        let mut state = self.state();
        for (_, end) in &mut state.passwords {
            end.get_or_insert(until);
        }
        state.passwords.push((password.to_owned(), None));
    }

    /// When a password was first and last shown.
    pub(crate) fn shown(&self, password: &str) -> Option<(Instant, Instant)> {
        let state = self.state();
        let shown = state.shown.get(password)?;
        Some((*shown.first()?, *shown.last()?))
    }

    /// Logins that were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.state().refused
    }

    pub(crate) fn resumed_at(&self) -> Vec<u64> {
        self.state().resumed_at.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        each_request(stream, |head, stream| self.answer(head, stream))
    }

    fn answer(&self, head: &str, stream: &mut TcpStream) -> io::Result<()> {
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let authorization = header(head, "authorization").unwrap_or_default();
        if path.starts_with("/token") {
            return match self.knows(authorization) {
                true => {
                    let number = {
                        let mut state = self.state();
                        state.tokens += 1;
                        state.tokens
                    };
                    let body = format!(r#"{{"token":"token-{number}","expires_in":300}}"#);
                    write_whole(stream, "200 OK", "application/json", &body, "GET")
                }
                false => write_whole(stream, "401 Unauthorized", "text/plain", "", "GET"),
            };
        }
        let may = match self.scheme {
            Scheme::Basic => self.knows(authorization),
            Scheme::Bearer => authorization.starts_with("Bearer token-"),
        };
        if !may {
            let challenge = match self.scheme {
                Scheme::Basic => "Basic realm=\"site\"".to_owned(),
                Scheme::Bearer => format!(
                    "Bearer realm=\"http://{}/token\",service=\"site\"",
                    self.addresses[0]
                ),
            };
            return write!(
                stream,
                "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: {challenge}\r\ncontent-length: 0\r\n\r\n"
            );
        }
        let (rest, last) = path.rsplit_once('/').unwrap_or((path, ""));
        let image = rest
            .strip_prefix("/v2/")
            .and_then(|rest| rest.strip_suffix("/manifests"));
        let image = image.and_then(|repository| self.state().images.get(repository).cloned());
        let blob = self.state().blobs.get(last).cloned();
        match (image, blob) {
            (Some(image), _) => {
                write_whole(stream, "200 OK", MANIFEST_TYPE, &image.manifest, method)
            }
            (None, Some(blob)) => self.send(head, &blob, method, stream),
            (None, None) if path == "/v2/" => {
                write_whole(stream, "200 OK", "text/plain", "", method)
            }
            (None, None) => write_whole(stream, "404 Not Found", "text/plain", "", method),
        }
    }

    /// Whether this is Basic with a password that counts; notes which was shown.
    fn knows(&self, authorization: &str) -> bool {
        let pair = authorization.strip_prefix("Basic ");
        let pair = pair.and_then(|pair| STANDARD.decode(pair.trim()).ok());
        let pair = pair.and_then(|pair| String::from_utf8(pair).ok());
        let Some(pair) = pair else { return false };
        let (user, password) = pair.split_once(':').unwrap_or_default();
        let now = Instant::now();
        let mut state = self.state();
        state
            .shown
            .entry(password.to_owned())
            .or_default()
            .push(now);
        let counts = state
            .passwords
            .iter()
            .any(|(known, until)| known == password && until.is_none_or(|until| now < until));
        state.refused += u64::from(!(counts && user == USER));
        counts && user == USER
    }

    fn send(
        &self,
        head: &str,
        blob: &Content,
        method: &str,
        stream: &mut TcpStream,
    ) -> io::Result<()> {
        let range = header(head, "range").and_then(|range| range.strip_prefix("bytes="));
        let range = range.and_then(|range| range.split_once('-'));
        let first = range.and_then(|(first, _)| first.parse().ok()).unwrap_or(0);
        let last = range.and_then(|(_, last)| last.parse().ok());
        let last = last.unwrap_or(blob.length - 1).min(blob.length - 1);
        if first > 0 {
            self.state().resumed_at.push(first);
        }
        write!(
            stream,
            "HTTP/1.1 {}\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\ncontent-range: bytes {first}-{last}/{}\r\naccept-ranges: bytes\r\n\r\n",
            if range.is_some() {
                "206 Partial Content"
            } else {
                "200 OK"
            },
            last + 1 - first,
            blob.length,
        )?;
        if method == "HEAD" {
            return Ok(());
        }
        let (mut at, mut piece, began) = (first, vec![0; PIECE_BYTES], Instant::now());
        while at <= last {
            let left = usize::try_from(last + 1 - at).unwrap_or(usize::MAX);
            let bytes = left.min(piece.len());
            blob.write(at, &mut piece[..bytes]);
            stream.write_all(&piece[..bytes])?;
            at += bytes as u64;
            if let Some(rate) = self.rate {
                let due = began + Duration::from_secs_f64((at - first) as f64 / rate as f64);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        Ok(())
    }
}

fn write_whole(
    stream: &mut TcpStream,
    status: &str,
    kind: &str,
    body: &str,
    method: &str,
) -> io::Result<()> {
    let digest = Digest::of(Algorithm::Sha256, body.as_bytes());
    let shown = if method == "HEAD" { "" } else { body };
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ndocker-content-digest: {digest}\r\ncontent-length: {}\r\n\r\n{shown}",
        body.len()
    )
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().skip(1);
    let mut fields = lines.filter_map(|line| line.split_once(": "));
    let field = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
    field.map(|(_, value)| value)
}
