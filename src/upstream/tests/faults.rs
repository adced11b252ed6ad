//! Each kind of trouble has its own error, with a message that says what to do.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::server::{Reply, Server};
use super::world::*;
use crate::config;
use crate::upstream::{Away, Error, ErrorKind, Phase, Tls, Upstream};

async fn away(upstream: &Upstream) -> (Away, String) {
    let error: Error = remote(upstream, "r.test/a")
        .head(&tag("1"))
        .await
        .unwrap_err();
    let text = error.to_string();
    let ErrorKind::Away(away) = error.kind else {
        panic!("{text}");
    };
    (away, text)
}

async fn away_at(endpoint: &str) -> (Away, String) {
    away(&one(registry("r.test", &[endpoint])).0).await
}

#[tokio::test]
async fn sockets_tell_their_troubles_apart() {
    let (kind, text) = away_at("http://name.invalid:5000").await;
    assert!(matches!(kind, Away::Dns { .. }), "{text}");
    assert!(text.contains("name.invalid does not resolve"), "{text}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (kind, text) = away_at(&format!("http://{address}")).await;
    assert!(matches!(kind, Away::Refused), "{text}");
    assert!(text.contains("nobody listens there"), "{text}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let closing = tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let (kind, text) = away_at(&format!("http://{address}")).await;
    assert!(
        matches!(
            kind,
            Away::Reset {
                during: Phase::Headers
            }
        ),
        "{kind:?}"
    );
    let (kind, _) = away_at(&format!("https://{address}")).await;
    assert!(
        matches!(
            kind,
            Away::Reset {
                during: Phase::TlsHandshake
            }
        ),
        "{kind:?}"
    );
    assert!(
        text.contains("the connection broke while waiting"),
        "{text}"
    );
    closing.abort();
}

#[tokio::test]
async fn silence_is_a_timeout_of_the_right_part() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let quick = |scheme: &str| {
        let mut config = config(vec![registry(
            "r.test",
            &[&format!("{scheme}://{address}")],
        )]);
        config.upstream.connect_timeout = Duration::from_millis(100);
        config.upstream.header_timeout = Duration::from_millis(100);
        upstream(&config).0
    };
    let (kind, text) = away(&quick("http")).await;
    assert!(
        matches!(
            kind,
            Away::Timeout {
                during: Phase::Headers,
                ..
            }
        ),
        "{kind:?}"
    );
    assert!(
        text.contains("timed out while waiting for the answer, after 0.1 s"),
        "{text}"
    );
    let (kind, _) = away(&quick("https")).await;
    assert!(
        matches!(
            kind,
            Away::Timeout {
                during: Phase::TlsHandshake | Phase::Connect,
                ..
            }
        ),
        "{kind:?}"
    );
}

#[tokio::test]
async fn what_is_not_http_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ssh = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
        }
    });
    let (kind, text) = away_at(&format!("http://{address}")).await;
    assert!(matches!(kind, Away::Protocol { .. }), "{kind:?} {text}");
    let (kind, text) = away_at(&format!("https://{address}")).await;
    assert!(matches!(kind, Away::Tls(Tls::Other { .. })), "{kind:?}");
    assert!(text.contains("does not speak TLS"), "{text}");
    ssh.abort();
}

struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    fn file(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.certificate.pem()).unwrap();
        file
    }

    fn acceptor(&self, params: &CertificateParams) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

fn named(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

fn trusting(url: &str, ca_file: &tempfile::NamedTempFile) -> config::Registry {
    let mut registry = registry("r.test", &[url]);
    registry.tls.ca_file = Some(ca_file.path().to_owned());
    registry
}

#[tokio::test]
async fn a_private_authority_is_trusted_for_registry_token_service_and_redirects() {
    let authority = Authority::new();
    let ca_file = authority.file();
    let acceptor = || authority.acceptor(&named("localhost"));
    let cdn = Server::start_tls(acceptor(), |_| Reply::ok("blob")).await;
    let there = cdn.url_as("localhost");
    let server = Server::start_tls(acceptor(), move |seen| {
        if seen.path.starts_with("/token") {
            return token_reply(300);
        }
        let host = seen.header("host");
        match (seen.header("authorization"), seen.path.contains("/blobs/")) {
            ("", _) => challenge(&format!("https://{host}/token"), &scope_of(seen)),
            (_, true) => Reply::new(307).header("location", &*there),
            (_, false) => image_reply(),
        }
    })
    .await;
    let url = server.url_as("localhost");
    let (upstream, _) = one(trusting(&url, &ca_file));
    let remote = remote(&upstream, "r.test/a");
    let mut download = remote.blob(&sha256(b"blob"), 0).await.unwrap();
    assert_eq!(download.chunk().await.unwrap().unwrap(), "blob");
    remote.manifest(&tag("1")).await.unwrap();
    let versions: Vec<_> = server.take().iter().map(|seen| seen.version).collect();
    let (h1, h2) = (http::Version::HTTP_11, http::Version::HTTP_2);
    assert_eq!(
        versions,
        [h1, h2, h1, h2],
        "blobs have connections of their own"
    );
    let (upstream, _) = one(registry("r.test", &[&url]));
    let (kind, text) = away(&upstream).await;
    assert!(matches!(kind, Away::Tls(Tls::UnknownCa)), "{kind:?}");
    assert!(text.contains("set ca_file"), "{text}");
    let mut careless = registry("r.test", &[&url]);
    careless.tls.insecure_skip_verify = true;
    let (upstream, _) = one(careless);
    let remote = super::world::remote(&upstream, "r.test/a");
    remote.blob(&sha256(b"blob"), 0).await.unwrap();
}

#[tokio::test]
async fn bad_certificates_are_told_apart() {
    let authority = Authority::new();
    let ca_file = authority.file();
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let mut expired = named("localhost");
    (expired.not_before, expired.not_after) = (year(2001), year(2002));
    let mut early = named("localhost");
    (early.not_before, early.not_after) = (year(2090), year(2091));
    for (params, expected) in [
        (expired, "has expired"),
        (early, "is not valid yet"),
        (named("other.example"), "is for another name"),
    ] {
        let server = Server::start_tls(authority.acceptor(&params), |_| image_reply()).await;
        let (upstream, _) = one(trusting(&server.url_as("localhost"), &ca_file));
        let (kind, text) = away(&upstream).await;
        assert!(matches!(kind, Away::Tls(_)), "{kind:?}");
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn an_unusable_ca_file_ends_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = config(vec![trusting("https://r.test", &file)]);
    let metrics = crate::upstream::Metrics::new(&prometheus::Registry::new());
    let error = Upstream::new(&config, crate::clock::Clock::System, metrics).unwrap_err();
    assert!(
        error.to_string().contains("there is no certificate in it"),
        "{error}"
    );
}

/// A proxy for one connection at a time, that says where it was asked to go.
async fn proxy(seen: Arc<std::sync::Mutex<Vec<String>>>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split(' ').nth(1).unwrap().to_owned();
            seen.lock().unwrap().push(head);
            let port = target.rsplit_once(':').unwrap().1.to_owned();
            let mut server = TcpStream::connect(format!("127.0.0.1:{port}"))
                .await
                .unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_is_gone_through_where_it_is_set() {
    let seen = Arc::default();
    let address = proxy(Arc::clone(&seen)).await;
    let server = Server::start(|_| image_reply()).await;
    let port = server.address.port();
    // Only the proxy can resolve this name.
    let endpoint = format!("http://registry.internal.invalid:{port}");
    let mut config = config(vec![registry("r.test", &[&endpoint])]);
    config.upstream.proxy = Some(format!("http://user:proxy-password@{address}"));
    remote(&upstream(&config).0, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap();
    let head = seen.lock().unwrap().remove(0);
    assert!(
        head.starts_with(&format!("CONNECT registry.internal.invalid:{port} ")),
        "{head}"
    );
    assert!(
        head.to_lowercase().contains("proxy-authorization: basic "),
        "{head}"
    );

    config.upstream.no_proxy = Some("registry.internal.invalid".to_owned());
    let (kind, _) = away(&upstream(&config).0).await;
    assert!(matches!(kind, Away::Dns { .. }), "{kind:?}");
    assert!(seen.lock().unwrap().is_empty());

    let refusing = Server::start(|_| Reply::new(407)).await;
    config.upstream.no_proxy = None;
    config.upstream.proxy = Some(refusing.url());
    let (kind, text) = away(&upstream(&config).0).await;
    assert!(matches!(kind, Away::Proxy { .. }), "{kind:?}");
    assert!(text.contains("NO_PROXY"), "{text}");
}

/// A SOCKS5 proxy without authentication, that says which name it was asked for.
async fn socks(seen: Arc<std::sync::Mutex<Vec<String>>>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut greeting = [0; 3];
            client.read_exact(&mut greeting).await.unwrap();
            client.write_all(&[5, 0]).await.unwrap();
            let mut head = [0; 5];
            client.read_exact(&mut head).await.unwrap();
            assert_eq!(head[3], 3, "names are the proxy's to resolve");
            let mut name = vec![0; usize::from(head[4])];
            client.read_exact(&mut name).await.unwrap();
            let port = client.read_u16().await.unwrap();
            seen.lock().unwrap().push(String::from_utf8(name).unwrap());
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            client
                .write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0])
                .await
                .unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    address
}

#[tokio::test]
async fn a_socks_proxy_resolves_the_names() {
    let seen = Arc::default();
    let address = socks(Arc::clone(&seen)).await;
    let server = Server::start(|_| image_reply()).await;
    let endpoint = format!("http://registry.internal.invalid:{}", server.address.port());
    let mut config = config(vec![registry("r.test", &[&endpoint])]);
    config.upstream.proxy = Some(format!("socks5://{address}"));
    remote(&upstream(&config).0, "r.test/a")
        .manifest(&tag("1"))
        .await
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), ["registry.internal.invalid"]);
}
