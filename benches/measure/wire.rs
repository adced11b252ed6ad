//! One keep-alive HTTP/1.1 connection of the load generator.
//!
//! Bodies of plain connections are discarded inside the kernel (`recv` with `MSG_TRUNC`), so that
//! the client costs next to nothing and the figures are the server's. Over TLS they have to be read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::RecvFlags;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest response head that is taken.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Taken from a socket at once. The kernel never writes to a buffer that is only discarded.
const DISCARD_BYTES: usize = 1 << 20;

/// Where the server is, and how to talk to it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

impl Place {
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Place { address, tls: None }
    }
}

/// The head of a response, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: u64,
    pub(crate) closes: bool,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// An open connection.
pub(crate) struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) async fn open(place: &Place) -> Result<Self> {
        let tcp = TcpStream::connect(place.address).await.context("connect")?;
        tcp.set_nodelay(true)?;
        let stream = match &place.tls {
            None => Stream::Plain(tcp),
            Some(config) => {
                let name = ServerName::from(place.address.ip());
                let connector = TlsConnector::from(Arc::clone(config));
                Stream::Tls(Box::new(connector.connect(name, tcp).await.context("TLS")?))
            }
        };
        Ok(Wire {
            stream,
            buffer: vec![0; DISCARD_BYTES],
        })
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<()> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(request).await?,
            Stream::Tls(tls) => tls.write_all(request).await?,
        }
        Ok(())
    }

    /// The response's head, and how many bytes of the body came with it.
    pub(crate) async fn head(&mut self) -> Result<(Head, u64)> {
        let mut filled = 0;
        loop {
            let space = &mut self.buffer[filled..HEAD_BYTES_MAX];
            let n = match &mut self.stream {
                Stream::Plain(tcp) => tcp.read(space).await?,
                Stream::Tls(tls) => tls.read(space).await?,
            };
            ensure!(n > 0, "connection closed before the head was complete");
            filled += n;
            if let Some(end) = find_end(&self.buffer[..filled]) {
                return Ok((parse_head(&self.buffer[..end])?, (filled - end) as u64));
            }
            ensure!(
                filled < HEAD_BYTES_MAX,
                "head of more than {HEAD_BYTES_MAX} bytes"
            );
        }
    }

    /// Takes up to `bytes` of a body that is under way and forgets them.
    pub(crate) async fn discard(&mut self, bytes: u64) -> Result<u64> {
        let most = usize::try_from(bytes).map_or(DISCARD_BYTES, |bytes| bytes.min(DISCARD_BYTES));
        let space = &mut self.buffer[..most];
        let n = match &mut self.stream {
            Stream::Plain(tcp) => {
                let take = || {
                    let (_, n) = rustix::net::recv(&*tcp, &mut *space, RecvFlags::TRUNC)?;
                    Ok(n)
                };
                tcp.async_io(Interest::READABLE, take).await?
            }
            Stream::Tls(tls) => tls.read(space).await?,
        };
        ensure!(
            n > 0,
            "connection closed {bytes} bytes before the end of the body"
        );
        Ok(n as u64)
    }
}

fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
}

fn parse_head(bytes: &[u8]) -> Result<Head> {
    let text = std::str::from_utf8(bytes).context("head")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status
        .and_then(|status| status.parse().ok())
        .context("no status")?;
    let (mut length, mut closes) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse().context("Content-Length")?);
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    match length {
        Some(length) => Ok(Head {
            status,
            length,
            closes,
        }),
        None => bail!("status {status} without Content-Length"),
    }
}

/// When the parts of one exchange were there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) sent: Instant,
    pub(crate) first_byte: Instant,
    pub(crate) done: Instant,
}
