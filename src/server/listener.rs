//! The addresses that clients connect to.
//!
//! Bound before anything else runs, so that a busy port is the first thing an operator hears of; or
//! bound by the service manager, which then keeps them open while weir restarts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Server;
use super::connection::Stream;
use super::corridor::Peer;
use crate::config::Listen;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// Accepting failed for want of descriptors or memory: wait for some to come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    socket: Bound,
    address: Listen,
}

/// What an address was bound to.
#[derive(Debug)]
pub enum Bound {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// `None`: the name belongs to whoever handed the socket over.
        name: Option<SocketFile>,
    },
}

/// A socket that somebody else bound and listens on, such as systemd.
#[derive(Debug)]
pub enum Handed {
    /// TLS where `server.tls` is configured, else plain HTTP.
    Tcp(std::net::TcpListener),
    /// Plain HTTP, also beside TLS.
    Plain(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// The name of a unix socket in the file system; dropping it removes the name.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

/// Why an address can't be listened on: one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "{0} is in use by another program (perhaps another weir); stop it or choose another address"
    )]
    InUse(Listen),
    #[error(
        "{0} may not be used: ports below 1024 and other people's directories need a right that weir does not have"
    )]
    Forbidden(Listen),
    #[error("{0} is no address of this machine")]
    NotHere(Listen),
    #[error("cannot listen on {address}: {source}")]
    Other { address: Listen, source: io::Error },
}

impl Listener {
    pub fn bind(address: &Listen) -> Result<Listener, BindError> {
        let bound = match address {
            Listen::Tcp(ip) => bind_tcp(*ip, Listen::Tcp),
            Listen::Plain(ip) => bind_tcp(*ip, Listen::Plain),
            Listen::Unix(path) => bind_unix(path),
        };
        bound.map_err(|source| BindError::of(address.clone(), source))
    }

    /// Takes over a socket that listens already.
    pub fn adopt(handed: Handed) -> io::Result<Listener> {
        match handed {
            Handed::Tcp(listener) => adopt_tcp(listener, Listen::Tcp),
            Handed::Plain(listener) => adopt_tcp(listener, Listen::Plain),
            Handed::Unix(listener) => adopt_unix(listener),
        }
    }

    /// Where it listens, with the real port where 0 was asked for.
    pub fn address(&self) -> &Listen {
        &self.address
    }

    /// The socket itself, for somebody who speaks something else on it.
    pub fn into_bound(self) -> Bound {
        self.socket
    }

    /// Whether this address speaks TLS where a certificate is configured.
    fn speaks_tls(&self) -> bool {
        match self.address {
            Listen::Tcp(_) => true,
            Listen::Plain(_) | Listen::Unix(_) => false,
        }
    }

    pub(super) async fn accept_until(
        self,
        server: Arc<Server>,
        connections: TaskTracker,
        stop: CancellationToken,
        cut: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&server.tls) => accepted,
                () = stop.cancelled() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if !concerns_one_client(&error) {
                        tracing::error!("cannot accept connections on {}: {error}", self.address);
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            };
            let Some((seat, left)) = server.seats.take() else {
                server.metrics.connections_refused.inc();
                continue;
            };
            server.metrics.connections_let_go.inc_by(left as u64);
            let (server, stop, cut) = (server.clone(), stop.clone(), cut.clone());
            connections.spawn(async move {
                let seat = Arc::new(seat);
                tokio::select! {
                    () = server.converse(stream, peer, seat.clone(), stop) => {}
                    () = cut.cancelled() => {}
                    () = seat.wanted() => {}
                }
            });
        }
    }

    async fn accept(
        &self,
        tls: &ArcSwapOption<rustls::ServerConfig>,
    ) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Bound::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let address = Some(address.ip().to_canonical());
                let peer = Peer {
                    address,
                    ..Peer::default()
                };
                match tls.load_full().filter(|_| self.speaks_tls()) {
                    Some(config) => Ok((Stream::Tls(stream, config), peer)),
                    None => Ok((Stream::Plain(stream), peer)),
                }
            }
            Bound::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::default()))
            }
        }
    }
}

fn bind_tcp(address: SocketAddr, kind: fn(SocketAddr) -> Listen) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if let IpAddr::V6(ip) = address.ip() {
        // `[::]` means every address, as it does elsewhere.
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = kind(listener.local_addr()?);
    Ok(Listener {
        socket: Bound::Tcp(listener),
        address,
    })
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    remove_abandoned(path)?;
    let listener = UnixListener::bind(path)?;
    Ok(Listener {
        socket: Bound::Unix {
            listener,
            name: Some(SocketFile(path.to_owned())),
        },
        address: Listen::Unix(path.to_owned()),
    })
}

fn adopt_tcp(
    listener: std::net::TcpListener,
    kind: fn(SocketAddr) -> Listen,
) -> io::Result<Listener> {
    refuse_deaf(&SockRef::from(&listener))?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = kind(listener.local_addr()?);
    Ok(Listener {
        socket: Bound::Tcp(listener),
        address,
    })
}

fn adopt_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Listener> {
    refuse_deaf(&SockRef::from(&listener))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    // Without a name in the file system it has one that only the kernel knows.
    let path = address.as_pathname().unwrap_or(Path::new("@")).to_owned();
    Ok(Listener {
        socket: Bound::Unix {
            listener: UnixListener::from_std(listener)?,
            name: None,
        },
        address: Listen::Unix(path),
    })
}

/// A socket that nobody listens on, such as one connection of an inetd-like service.
fn refuse_deaf(socket: &SockRef<'_>) -> io::Result<()> {
    if socket.is_listener()? {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "it does not listen (systemd: Accept=no)",
    ))
}

/// A socket that nobody listens on any more was left behind by a process that was killed.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already, and then that is what was wanted.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl BindError {
    fn of(address: Listen, source: io::Error) -> BindError {
        if source.kind() == io::ErrorKind::AddrInUse {
            BindError::InUse(address)
        } else if source.kind() == io::ErrorKind::PermissionDenied {
            BindError::Forbidden(address)
        } else if source.kind() == io::ErrorKind::AddrNotAvailable {
            BindError::NotHere(address)
        } else {
            BindError::Other { address, source }
        }
    }
}

/// A client that gave up before it was accepted is no trouble of the listener's.
fn concerns_one_client(error: &io::Error) -> bool {
    [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::Interrupted,
        io::ErrorKind::InvalidInput,
        io::ErrorKind::NotConnected,
    ]
    .contains(&error.kind())
}
