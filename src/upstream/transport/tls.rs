//! Who is trusted, and who we are: TLS towards one registry.
//!
//! The system's root certificates are read when TLS is first needed, off the async workers and once
//! for all registries: reading them takes tens of milliseconds, and weir starts in less. Where the
//! system has none, as in a container from scratch, the bundled ones serve.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use tokio::sync::OnceCell;

use crate::config;
use crate::upstream::metrics::Certificates;

/// Which protocols are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum Alpn {
    None,
    Http1,
    Http2OrHttp1,
}

/// The root certificates of this machine, shared by all registries.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Roots {
    loaded: OnceCell<Arc<RootCertStore>>,
}

impl Roots {
    async fn get(&self) -> Arc<RootCertStore> {
        let load = || async {
            let loaded = tokio::task::spawn_blocking(load_roots).await;
            Arc::new(loaded.unwrap_or_else(|_panicked| bundled_roots()))
        };
        Arc::clone(self.loaded.get_or_init(load).await)
    }
}

fn load_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a system root certificate could not be read");
    }
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::debug!("the system has no root certificates, the bundled ones serve");
        return bundled_roots();
    }
    tracing::debug!(added, ignored, "system root certificates loaded");
    roots
}

fn bundled_roots() -> RootCertStore {
    RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    }
}

/// TLS towards one registry, its token service and the hosts it redirects to.
#[derive(Debug)]
pub(in crate::upstream) struct Tls {
    roots: Arc<Roots>,
    authorities: Vec<CertificateDer<'static>>,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    skip_verify: bool,
    config: OnceCell<ClientConfig>,
    shown: Certificates,
}

/// Why the files of a registry's TLS cannot be used.
#[derive(Debug)]
pub(in crate::upstream) struct BadFile {
    pub(in crate::upstream) file: PathBuf,
    pub(in crate::upstream) why: String,
}

impl Tls {
    /// Reads the files that the registry names.
    pub(in crate::upstream) fn new(
        roots: Arc<Roots>,
        said: &config::UpstreamTls,
    ) -> Result<Self, BadFile> {
        let authorities = match &said.ca_file {
            Some(file) => certificates(file)?,
            None => Vec::new(),
        };
        let client = match (&said.client_certificate, &said.client_key) {
            (Some(certificate), Some(key)) => Some((certificates(certificate)?, private_key(key)?)),
            (Some(both), None) => Some((certificates(both)?, private_key(both)?)),
            (None, _) => None,
        };
        Ok(Tls {
            roots,
            authorities,
            client,
            skip_verify: said.insecure_skip_verify,
            config: OnceCell::new(),
            shown: Certificates::default(),
        })
    }

    /// Notes there what endpoints show.
    pub(in crate::upstream) fn noting(self, shown: Certificates) -> Self {
        Tls { shown, ..self }
    }

    /// `origin` has just proved who it is by this chain.
    pub(super) fn note(&self, origin: &str, chain: Option<&[CertificateDer<'_>]>) {
        if let Some(own) = chain.and_then(<[_]>::first) {
            self.shown.shown(origin, own);
        }
    }

    /// The set-up for a handshake. The error is a text: there is nothing to be told apart.
    pub(super) async fn config(&self, alpn: Alpn) -> Result<Arc<ClientConfig>, String> {
        let config = self.config.get_or_try_init(|| self.build()).await?;
        let mut config = config.clone();
        config.alpn_protocols = match alpn {
            Alpn::None => Vec::new(),
            Alpn::Http1 => vec![b"http/1.1".to_vec()],
            Alpn::Http2OrHttp1 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        Ok(Arc::new(config))
    }

    async fn build(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if self.skip_verify {
            let verifier = Arc::new(TrustAnyone { provider });
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        } else {
            let mut roots = RootCertStore::clone(&*self.roots.get().await);
            for authority in &self.authorities {
                roots
                    .add(authority.clone())
                    .map_err(|error| format!("ca_file: {error}"))?;
            }
            builder.with_root_certificates(roots)
        };
        match &self.client {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| format!("client_certificate: {error}")),
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    let bad = |why: String| BadFile {
        file: file.to_owned(),
        why,
    };
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(error.to_string()))?;
    if found.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    Ok(found)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, BadFile> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| BadFile {
        file: file.to_owned(),
        why: error.to_string(),
    })
}

/// `insecure_skip_verify`: any certificate will do. The handshake's own signature is still checked.
#[derive(Debug)]
struct TrustAnyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
