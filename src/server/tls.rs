//! TLS towards clients: weir's certificate, and the CA of theirs.
//!
//! The files are read as a whole or not at all; a reload swaps everything at once, and connections
//! keep what they began with.
//!
//! Only HTTP/1.1 is offered. docker, containerd, podman, buildah and skopeo spoke it over TLS with a
//! registry that offered HTTP/2 too, so nobody would gain. Nor is it faster: from nginx 1.22 over TLS
//! on loopback, curl took by HTTP/2 1.03 times as long for one blob of 256 MiB, 1.21 times for eight
//! side by side, 1.20 times for 2,000 manifests in a row, and 0.91 times for 2,000 side by side
//! (medians of the ratios of five rounds). And what can be done to a server with HTTP/2 frames (rapid resets,
//! endless CONTINUATION, floods of PING and SETTINGS) can't be done to this one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, VerifierBuilderError, WebPkiClientVerifier};

use crate::config::ServerTls;

/// Why the files of `[server.tls]` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTls {
    #[error("{}: {source}", .file.display())]
    Unreadable { file: PathBuf, source: pem::Error },
    #[error("{}: there is no certificate in it", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} and {} do not belong together, or can't be used: {source}",
        .certificate.display(), .key.display())]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
    #[error("{}: {source}", .file.display())]
    Root {
        file: PathBuf,
        source: rustls::Error,
    },
    #[error("{}: {source}", .file.display())]
    ClientCa {
        file: PathBuf,
        source: VerifierBuilderError,
    },
    #[error("TLS could not be set up: {0}")]
    Setup(#[source] rustls::Error),
}

pub(super) fn read(files: &ServerTls) -> Result<Arc<ServerConfig>, InvalidTls> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(InvalidTls::Setup)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let roots = Arc::new(read_roots(file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                // Rules say who needs one.
                .allow_unauthenticated()
                .build();
            let file = file.clone();
            builder.with_client_cert_verifier(
                verifier.map_err(|source| InvalidTls::ClientCa { file, source })?,
            )
        }
    };
    let chain = read_certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unreadable(&files.key))?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|source| InvalidTls::Pair {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    let chain = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable(file))?;
    if chain.is_empty() {
        return Err(InvalidTls::NoCertificate(file.to_owned()));
    }
    Ok(chain)
}

fn read_roots(file: &Path) -> Result<RootCertStore, InvalidTls> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(file)? {
        let added = roots.add(certificate);
        added.map_err(|source| InvalidTls::Root {
            file: file.to_owned(),
            source,
        })?;
    }
    Ok(roots)
}

fn unreadable(file: &Path) -> impl FnOnce(pem::Error) -> InvalidTls {
    let file = file.to_owned();
    move |source| InvalidTls::Unreadable { file, source }
}
