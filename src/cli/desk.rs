//! Asking a weir that runs, on its admin address.
//!
//! Only ever the address of the configuration: no other host, no redirects, no proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::Listen;

/// It is on this machine, or near.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why the desk of a running weir did not help.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeskError {
    #[error("no weir answers on {address}: {source}")]
    Away {
        address: String,
        source: std::io::Error,
    },
    #[error("weir on {address} did not answer within {} s", PATIENCE.as_secs())]
    Slow { address: String },
    #[error("weir on {address} gave no usable answer: {why}")]
    Odd { address: String, why: String },
    #[error("{0}")]
    Refused(String),
}

/// The admin address of a configuration.
pub(super) struct Desk<'a>(pub(super) &'a Listen);

impl Desk<'_> {
    /// `path` with its query, fit for a URL.
    pub(super) async fn get(&self, path: &str) -> Result<Value, DeskError> {
        let slow = |_elapsed| DeskError::Slow {
            address: self.0.to_string(),
        };
        timeout(PATIENCE, self.ask(path)).await.map_err(slow)?
    }

    async fn ask(&self, path: &str) -> Result<Value, DeskError> {
        let away = |source| DeskError::Away {
            address: self.0.to_string(),
            source,
        };
        match self.0 {
            Listen::Tcp(address) | Listen::Plain(address) => {
                let stream = TcpStream::connect(reachable(*address)).await;
                self.talk(stream.map_err(away)?, path).await
            }
            Listen::Unix(name) => {
                let stream = UnixStream::connect(name).await;
                self.talk(stream.map_err(away)?, path).await
            }
        }
    }

    async fn talk<S>(&self, stream: S, path: &str) -> Result<Value, DeskError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let odd = |why: String| DeskError::Odd {
            address: self.0.to_string(),
            why,
        };
        let host = match self.0 {
            Listen::Tcp(address) | Listen::Plain(address) => reachable(*address).to_string(),
            Listen::Unix(_) => "localhost".to_owned(),
        };
        let request = Request::get(path)
            .header(header::HOST, host)
            .body(Empty::<bytes::Bytes>::new())
            .map_err(|error| odd(error.to_string()))?;
        let hands = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = hands.map_err(|error| odd(error.to_string()))?;
        let asking = async {
            // Dropped with the answer, which ends the connection.
            let mut sender = sender;
            let response = sender.send_request(request).await;
            let (head, body) = response
                .map_err(|error| odd(error.to_string()))?
                .into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| odd(error.to_string()))?.to_bytes();
            let told: Value = serde_json::from_slice(&body)
                .map_err(|_| odd(format!("status {}, and no JSON", head.status.as_u16())))?;
            match (head.status, told["error"]["message"].as_str()) {
                (StatusCode::OK, _) => Ok(told),
                (_, Some(message)) => Err(DeskError::Refused(message.to_owned())),
                (status, None) => Err(odd(format!("status {}", status.as_u16()))),
            }
        };
        let (answer, _) = tokio::join!(asking, async {
            // How the connection ends says nothing that the answer does not say.
            let _ = connection.await;
        });
        answer
    }
}

/// Whoever listens everywhere is reached here.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}
