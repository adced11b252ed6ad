//! The servers that are compared, each started on a free port with a configuration of its own.
//!
//! None writes an access log (the upstream does: it is how its requests are counted), and all the
//! others stand in front of the same upstream or serve the same files.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::load::{self, Ask, Plan, Until};
use super::process::Process;
use super::weir::Weir;
use super::wire::Place;

/// A server as the rows see it.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) place: Place,
    /// Where it keeps what it serves.
    pub(crate) cache: PathBuf,
}

/// nginx on the document root, and where else it listens.
pub(crate) struct Static {
    pub(crate) server: Server,
    pub(crate) tls: Place,
    /// Where it holds each connection to 32 MiB a second.
    pub(crate) throttled: Place,
}

/// What all servers share.
pub(crate) struct Site {
    /// Configurations, logs and caches go here.
    pub(crate) folder: PathBuf,
    pub(crate) registry_root: PathBuf,
    pub(crate) document_root: PathBuf,
    pub(crate) weir: PathBuf,
    pub(crate) certificate: Certificate,
}

/// A self-signed certificate for loopback, and a client that trusts it.
pub(crate) struct Certificate {
    pub(crate) file: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client: Arc<rustls::ClientConfig>,
}

impl Certificate {
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let (file, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        fs::write(&file, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        // One suite, the one that Go's clients and servers agree on, so that all do the same work.
        let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: vec![suite],
            ..rustls::crypto::aws_lc_rs::default_provider()
        };
        let client = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Certificate {
            file,
            key,
            client: Arc::new(client),
        })
    }

    pub(super) fn section(&self) -> String {
        let Certificate { file, key, .. } = self;
        format!(
            "[server.tls]\ncertificate = '{}'\nkey = '{}'\n",
            file.display(),
            key.display()
        )
    }
}

impl Site {
    /// The distribution registry on the content itself: everybody's upstream.
    pub(crate) fn upstream(&self) -> Result<Server> {
        self.registry(
            "upstream",
            &self.registry_root,
            "accesslog: {disabled: false}",
            "",
        )
    }

    /// What the upstream has logged since `offset`, and where the log ends now.
    pub(crate) fn upstream_saw(&self, offset: u64) -> Result<Seen> {
        let log = fs::read_to_string(self.log("upstream"))?;
        let mut seen = Seen {
            requests: 0,
            bytes: 0,
            log_end: log.len() as u64,
        };
        for line in log[usize::try_from(offset)?..].lines() {
            // Combined log format: address - - [time] "request" status bytes "referrer" "agent"
            let mut parts = line.split('"').skip(1);
            let (Some(request), Some(result)) = (parts.next(), parts.next()) else {
                continue;
            };
            let Some(Ok(bytes)) = result.split_whitespace().nth(1).map(str::parse::<u64>) else {
                continue;
            };
            seen.requests += 1;
            if request.starts_with("GET") && request.contains("/blobs/") {
                seen.bytes += bytes;
            }
        }
        Ok(seen)
    }

    /// The distribution registry as a pull-through cache, empty.
    pub(crate) fn distribution(&self, name: &str, upstream: &Place) -> Result<Server> {
        let cache = self.empty_folder(name)?;
        let proxy = format!("proxy: {{remoteurl: 'http://{}'}}", upstream.address);
        self.registry(name, &cache, "accesslog: {disabled: true}", &proxy)
    }

    fn registry(&self, name: &str, root: &Path, log: &str, proxy: &str) -> Result<Server> {
        let address = free_address()?;
        let config = self.folder.join(format!("{name}.yml"));
        let text = format!(
            "version: 0.1\n\
             log: {{level: error, {log}}}\n\
             storage:\n  \
               filesystem: {{rootdirectory: '{}', maxthreads: 100}}\n  \
               maintenance: {{uploadpurging: {{enabled: false}}}}\n\
             {proxy}\n\
             http: {{addr: '{address}', secret: bench, relativeurls: true}}\n",
            root.display(),
        );
        fs::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        self.start(name, &mut command, address, root)
    }

    /// nginx with sendfile and two workers on the document root.
    pub(crate) fn nginx_static(&self) -> Result<Static> {
        let (address, tls, throttled) = (free_address()?, free_address()?, free_address()?);
        let Certificate { file, key, client } = &self.certificate;
        let manifests =
            "location ~ /manifests/ { default_type application/vnd.oci.image.manifest.v1+json; }";
        let servers = format!(
            "types {{}}\n\
             default_type application/octet-stream;\n\
             root '{}';\n\
             server {{\n  \
               listen {address};\n  \
               listen {tls} ssl;\n  \
               ssl_certificate '{}';\n  ssl_certificate_key '{}';\n  \
               ssl_protocols TLSv1.2 TLSv1.3;\n  \
               {manifests}\n\
             }}\n\
             server {{\n  \
               listen {throttled};\n  \
               limit_rate 32m;\n  \
               {manifests}\n\
             }}\n",
            self.document_root.display(),
            file.display(),
            key.display(),
        );
        let server = self.nginx("nginx", &servers, address, &self.document_root)?;
        Ok(Static {
            server,
            tls: Place {
                address: tls,
                tls: Some(Arc::clone(client)),
            },
            throttled: Place::plain(throttled),
        })
    }

    /// nginx as a caching reverse proxy that lets one request for a thing through at a time, empty.
    pub(crate) fn nginx_cache(&self, name: &str, upstream: &Place) -> Result<Server> {
        let address = free_address()?;
        let upstream = upstream.address;
        let cache = self.empty_folder(name)?;
        let servers = format!(
            "proxy_cache_path '{}/cache' levels=2 keys_zone=oci:16m max_size=20g inactive=7d \
               use_temp_path=off;\n\
             upstream origin {{ server {upstream}; keepalive 32; }}\n\
             server {{\n  \
               listen {address};\n  \
               location /v2/ {{\n    \
                 proxy_pass http://origin;\n    \
                 proxy_http_version 1.1;\n    \
                 proxy_set_header Connection '';\n    \
                 proxy_set_header Host {upstream};\n    \
                 proxy_cache oci;\n    \
                 proxy_cache_valid 200 60m;\n    \
                 proxy_cache_lock on;\n    \
                 proxy_cache_lock_timeout 10m;\n    \
                 proxy_cache_lock_age 10m;\n  \
               }}\n\
             }}\n",
            cache.display(),
        );
        self.nginx(name, &servers, address, &cache)
    }

    fn nginx(&self, name: &str, servers: &str, address: SocketAddr, root: &Path) -> Result<Server> {
        let scratch = self.folder.join(format!("{name}-scratch"));
        fs::create_dir_all(&scratch)?;
        let scratch = scratch.display();
        // Only root has to name a user, and then one who may read the content.
        let user = if rustix::process::getuid().is_root() {
            "user root;\n"
        } else {
            ""
        };
        let text = format!(
            "{user}daemon off;\nworker_processes 2;\nworker_rlimit_nofile 16384;\n\
             pid '{scratch}/pid';\nerror_log '{scratch}/error.log' warn;\n\
             events {{ worker_connections 8192; }}\n\
             http {{\n\
             access_log off;\nsendfile on;\ntcp_nopush on;\n\
             keepalive_requests 100000000;\nkeepalive_timeout 600s;\n\
             client_body_temp_path '{scratch}/body';\nproxy_temp_path '{scratch}/proxy';\n\
             fastcgi_temp_path '{scratch}/f';\nuwsgi_temp_path '{scratch}/u';\n\
             scgi_temp_path '{scratch}/s';\n\
             {servers}}}\n"
        );
        let config = self.folder.join(format!("{name}.conf"));
        fs::write(&config, text)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&self.folder).arg("-c").arg(&config);
        self.start(name, &mut command, address, root)
    }

    /// weir as it is shipped, on an empty cache.
    pub(crate) fn weir(&self, name: &str, upstream: &Place, tls: bool) -> Result<Server> {
        let cache = self.empty_folder(name)?;
        self.weir_on(name, &cache, upstream, tls)
    }

    /// weir on a cache that may be there already.
    pub(crate) fn weir_on(
        &self,
        name: &str,
        cache: &Path,
        upstream: &Place,
        tls: bool,
    ) -> Result<Server> {
        let weir = Weir {
            name,
            folder: &self.folder,
            cache,
            upstream: upstream.address,
            certificate: tls.then_some(&self.certificate),
        };
        weir.start(Command::new(&self.weir))
    }

    fn start(
        &self,
        name: &str,
        command: &mut Command,
        address: SocketAddr,
        cache: &Path,
    ) -> Result<Server> {
        let mut process = Process::start(name, command, &self.log(name))?;
        process
            .wait_until(|| TcpStream::connect(address).is_ok())
            .with_context(|| format!("see {}", self.log(name).display()))?;
        Ok(Server {
            process,
            place: Place::plain(address),
            cache: cache.to_owned(),
        })
    }

    pub(crate) fn empty_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }
}

/// What the upstream was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    /// Bytes of blobs.
    pub(crate) bytes: u64,
    pub(crate) log_end: u64,
}

/// Whether a `GET` is answered with 200 and a body of whatever length.
pub(crate) fn answers(address: SocketAddr, path: &str) -> bool {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// Asks for each once, on one connection.
pub(crate) fn pull(place: &Place, asks: Vec<Ask>) -> Result<load::Report> {
    let until = Until::Each(asks.len());
    load::run(&Plan {
        place: place.clone(),
        asks,
        connections: 1,
        until,
    })?
    .checked()
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
