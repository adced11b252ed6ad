//! TLS towards clients, plain HTTP beside it, and clients that show a certificate.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Client, House, Upstream, Weir, eventually_async, manifest_path};

/// An authority, and what it signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
struct Identity {
    certificate: String,
    key: String,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        Authority { issuer }
    }

    fn sign(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }

    /// A connection of a client that trusts this authority.
    async fn connect(
        &self,
        address: SocketAddr,
        shown: Option<&Identity>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let root = self.issuer.der().clone();
        roots.add(root).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match shown {
            None => config.with_no_client_auth(),
            Some(shown) => {
                let key = PrivateKeyDer::try_from(shown.key_der.clone()).expect("a key");
                let chain = vec![shown.der.clone()];
                config.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        let name = ServerName::try_from("weir.internal").expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await
    }

    /// Whether this is the authority of the certificate that weir shows.
    async fn is_shown(&self, weir: &Weir) -> bool {
        self.connect(weir.address(), None).await.is_ok()
    }

    /// What a client that trusts this authority says over TLS, and what it hears.
    async fn ask(&self, address: SocketAddr, path: &str, shown: Option<&Identity>) -> String {
        let stream = self.connect(address, shown).await;
        let mut stream = stream.expect("a handshake");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: weir.internal\r\nConnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it is sent");
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .await
            .expect("an orderly end");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

async fn house(authority: &Authority) -> (Upstream, House) {
    let upstream = Upstream::start().await;
    upstream.image("library/alpine:3.20");
    let house = House::in_front_of(&upstream);
    let identity = authority.sign("weir.internal");
    let certificate = house.file("tls.crt", &identity.certificate);
    let key = house.file("tls.key", &identity.key);
    let ca = house.file("ca.crt", &authority.issuer.pem());
    let tls =
        format!("[server.tls]\ncertificate = {certificate:?}\nkey = {key:?}\nclient_ca = {ca:?}");
    let house = house.config(&tls);
    (upstream, house)
}

async fn status(weir: &Weir, authority: &Authority, shown: Option<&Identity>) -> String {
    let path = manifest_path("library/alpine", "3.20");
    let answer = authority.ask(weir.address(), &path, shown).await;
    answer[..12].to_owned()
}

#[tokio::test]
async fn an_image_is_pulled_over_tls() {
    let authority = Authority::new();
    let (_upstream, house) = house(&authority).await;
    let weir = house.start().await;
    let answer = authority.ask(weir.address(), "/v2/", None).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(status(&weir, &authority, None).await, "HTTP/1.1 200");
    // Plain HTTP on this address is an error of the client's, and no more.
    assert!(
        weir.client()
            .try_send(http::Method::GET, "/v2/")
            .await
            .is_err()
    );
    assert_eq!(status(&weir, &authority, None).await, "HTTP/1.1 200");
}

#[tokio::test]
async fn a_socket_of_the_service_manager_speaks_tls_or_not_as_it_is_called() {
    let authority = Authority::new();
    let (_upstream, house) = house(&authority).await;
    let (tls, plain) = (bound(), bound());
    let addresses = [&tls, &plain].map(|socket| socket.local_addr().expect("it is bound"));
    let weir = house.spawn_with([("registry", tls.into()), ("http", plain.into())]);
    let weir = weir.await;
    let answer = authority.ask(addresses[0], "/v2/", None).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Client::new(addresses[1]).get("/v2/").await.whole(200);
    drop(weir);
}

fn bound() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port is free")
}

#[tokio::test]
async fn a_certificate_lets_in_whom_the_rules_name() {
    let authority = Authority::new();
    let (_upstream, house) = house(&authority).await;
    let rules = "[access]\nanonymous = false\n[[access.rules]]\ncertificates = [\"CN=node-*\"]\nallow = [\"**\"]";
    let weir = house.config(rules).start().await;
    let (node, other) = (authority.sign("node-1"), authority.sign("other"));
    assert_eq!(status(&weir, &authority, Some(&node)).await, "HTTP/1.1 200");
    assert_eq!(
        status(&weir, &authority, Some(&other)).await,
        "HTTP/1.1 403"
    );
    assert_eq!(status(&weir, &authority, None).await, "HTTP/1.1 401");
}

#[tokio::test]
async fn a_key_that_does_not_belong_to_the_certificate_is_said_at_the_start() {
    let authority = Authority::new();
    let (_upstream, house) = house(&authority).await;
    house.file("tls.key", &authority.sign("weir.internal").key);
    let error = house.try_start().await.err().expect("it does not start");
    assert!(
        error.contains("tls.crt") && error.contains("tls.key"),
        "{error}"
    );
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_without_a_restart() {
    let (before, after) = (Authority::new(), Authority::new());
    let (_upstream, house) = house(&before).await;
    let weir = house.start().await;
    assert_eq!(status(&weir, &before, None).await, "HTTP/1.1 200");
    let identity = after.sign("weir.internal");
    house.file("tls.crt", &identity.certificate);
    house.file("tls.key", &identity.key);
    eventually_async("the new certificate is shown", || after.is_shown(&weir)).await;
}
