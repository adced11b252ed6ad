//! From a URL to a connection: name, address, proxy, TLS, each with its own fault.
//!
//! Names that resolve to link-local addresses are not connected to: cloud metadata services live
//! there, and whoever controls a registry's DNS or its redirects could otherwise have them asked.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tower::{Service, ServiceExt as _};

use super::fault::{ConnectFault, proxy_fault, tcp_fault, tls_fault};
use super::tls::{Alpn, Tls};
use crate::config;
use crate::upstream::address;
use crate::upstream::error::{Away, Phase};

/// Addresses of the other family are tried after this long (RFC 8305).
const HAPPY_EYEBALLS_DELAY: Duration = Duration::from_millis(250);
const KEEPALIVE: Duration = Duration::from_secs(30);

type Tcp = TokioIo<TcpStream>;
/// The connection to the host itself or to a proxy, which may stand behind TLS of its own.
type Hop = MaybeHttpsStream<Tcp>;
pub(super) type Stream = MaybeHttpsStream<Hop>;

/// Which proxy, if any, stands before a URL.
#[derive(Debug)]
pub(in crate::upstream) struct Proxies {
    matcher: Matcher,
    /// The rules are the environment's: these never send loopback through a proxy.
    from_environment: bool,
}

impl Proxies {
    pub(in crate::upstream) fn new(limits: &config::Upstream) -> Self {
        let no = match &limits.no_proxy {
            Some(no) => no.clone(),
            None => from_environment(["NO_PROXY", "no_proxy"]),
        };
        let builder = match &limits.proxy {
            Some(proxy) => Matcher::builder().all(proxy.clone()),
            None => Matcher::builder()
                .all(from_environment(["ALL_PROXY", "all_proxy"]))
                .https(from_environment(["HTTPS_PROXY", "https_proxy"]))
                .http(from_environment(["HTTP_PROXY", "http_proxy"])),
        };
        Proxies {
            matcher: builder.no(no).build(),
            from_environment: limits.proxy.is_none(),
        }
    }

    fn before(&self, destination: &Uri) -> Option<Intercept> {
        if self.from_environment && address::is_loopback(destination.host()?) {
            return None;
        }
        self.matcher.intercept(destination)
    }
}

fn from_environment(names: [&str; 2]) -> String {
    names
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_default()
}

/// Connects, for hyper's client.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    hop: HopConnector,
    proxies: Arc<Proxies>,
    alpn: Alpn,
}

impl Connector {
    pub(super) fn new(tls: Arc<Tls>, alpn: Alpn, proxies: Arc<Proxies>, within: Duration) -> Self {
        // A little less than for all of it, so that it is the resolver that says so.
        let resolver = Resolver {
            within: within - within / 8,
        };
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(within));
        tcp.set_happy_eyeballs_timeout(Some(HAPPY_EYEBALLS_DELAY));
        tcp.set_keepalive(Some(KEEPALIVE));
        Connector {
            hop: HopConnector { tcp, tls, within },
            proxies,
            alpn,
        }
    }

    async fn connect(self, destination: Uri) -> Result<Stream, ConnectFault> {
        let deadline = Instant::now() + self.hop.within;
        let hop = match self.proxies.before(&destination) {
            None => Hop::Http(self.hop.tcp(destination.clone(), deadline).await?),
            Some(proxy) => {
                let through = self.through(&proxy, destination.clone());
                timeout_at(deadline, through)
                    .await
                    .map_err(|_elapsed| self.hop.timed_out(Phase::Connect))??
            }
        };
        if destination.scheme_str() != Some("https") {
            return Ok(Stream::Http(hop));
        }
        self.hop
            .handshake(hop, &destination, self.alpn, deadline)
            .await
    }

    /// A tunnel through the proxy, for plain HTTP as well: one way through a proxy is enough.
    async fn through(&self, proxy: &Intercept, destination: Uri) -> Result<Hop, ConnectFault> {
        let hop = self.hop.clone();
        let scheme = proxy.uri().scheme_str().unwrap_or("http");
        if scheme.starts_with("socks") {
            let mut socks = SocksV5::new(proxy.uri().clone(), hop);
            if let Some((user, password)) = proxy.raw_auth() {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            return socks
                .oneshot(destination)
                .await
                .map_err(|error| proxy_fault(&error));
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), hop);
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        tunnel
            .oneshot(destination)
            .await
            .map_err(|error| proxy_fault(&error))
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectFault;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectFault>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        Box::pin(self.clone().connect(destination))
    }
}

/// Connects to the host of a URL, with TLS where the URL says https.
#[derive(Debug, Clone)]
struct HopConnector {
    tcp: HttpConnector<Resolver>,
    tls: Arc<Tls>,
    within: Duration,
}

impl HopConnector {
    fn timed_out(&self, during: Phase) -> ConnectFault {
        ConnectFault(Away::Timeout {
            during,
            after: self.within,
        })
    }

    async fn tcp(&self, destination: Uri, deadline: Instant) -> Result<Tcp, ConnectFault> {
        let connecting = self.tcp.clone().oneshot(destination);
        let connected = timeout_at(deadline, connecting)
            .await
            .map_err(|_elapsed| self.timed_out(Phase::Connect))?;
        connected.map_err(|error| tcp_fault(&error, self.within))
    }

    async fn handshake<S>(
        &self,
        stream: S,
        destination: &Uri,
        alpn: Alpn,
        deadline: Instant,
    ) -> Result<MaybeHttpsStream<S>, ConnectFault>
    where
        S: hyper::rt::Read + hyper::rt::Write + Send + Unpin,
    {
        let host = destination.host().unwrap_or_default();
        let name = ServerName::try_from(address::without_brackets(host).to_owned())
            .map_err(|error| ConnectFault::protocol(error.to_string()))?;
        let config = self
            .tls
            .config(alpn)
            .await
            .map_err(ConnectFault::protocol)?;
        let handshake = TlsConnector::from(config).connect(name, TokioIo::new(stream));
        let secured = timeout_at(deadline, handshake)
            .await
            .map_err(|_elapsed| self.timed_out(Phase::TlsHandshake))?
            .map_err(|error| tls_fault(&error))?;
        let chain = secured.get_ref().1.peer_certificates();
        self.tls.note(&address::origin(destination), chain);
        Ok(MaybeHttpsStream::Https(TokioIo::new(secured)))
    }

    async fn connect(self, destination: Uri) -> Result<Hop, ConnectFault> {
        let deadline = Instant::now() + self.within;
        let tcp = self.tcp(destination.clone(), deadline).await?;
        if destination.scheme_str() != Some("https") {
            return Ok(Hop::Http(tcp));
        }
        self.handshake(tcp, &destination, Alpn::None, deadline)
            .await
    }
}

impl Service<Uri> for HopConnector {
    type Response = Hop;
    type Error = ConnectFault;
    type Future = Pin<Box<dyn Future<Output = Result<Hop, ConnectFault>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        Box::pin(self.clone().connect(destination))
    }
}

/// The system's resolver, with a limit on its time and without forbidden addresses.
#[derive(Debug, Clone)]
struct Resolver {
    within: Duration,
}

impl Resolver {
    async fn resolve(self, host: String) -> Result<Vec<SocketAddr>, ConnectFault> {
        let fault = |why: String| {
            let host = host.clone();
            ConnectFault(Away::Dns { host, why })
        };
        let looked_up = tokio::time::timeout(self.within, tokio::net::lookup_host((&*host, 0)));
        let addresses: Vec<_> = match looked_up.await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(fault(resolver_text(&error))),
            Err(_elapsed) => {
                return Err(fault(format!(
                    "no answer within {} ms",
                    self.within.as_millis()
                )));
            }
        };
        let allowed: Vec<_> = addresses
            .into_iter()
            .filter(|address| !address::is_forbidden(address.ip()))
            .collect();
        if allowed.is_empty() {
            return Err(fault(
                "it has only addresses that are never asked".to_owned(),
            ));
        }
        Ok(allowed)
    }
}

/// Without the prefix that every message of the resolver has.
fn resolver_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text);
    text.to_owned()
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ConnectFault;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectFault>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move {
            Ok(resolver
                .resolve(name.as_str().to_owned())
                .await?
                .into_iter())
        })
    }
}
