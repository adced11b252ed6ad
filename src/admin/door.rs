//! The connections of the desk, each with a limit on how long it may be slow, and all together on how
//! many they are.
//!
//! Who is let in is one of a few: a scraper, a probe, a person. Nobody may take a place for long
//! without using it.

use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::Caller;

/// Open connections at most; one more is closed at once.
pub(super) const CONNECTIONS_MAX: usize = 128;
/// How long a caller may take for the head of a request, and be idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// From the head of a request until the last byte of its answer was taken. Removing a large image
/// from a slow disk is within it.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(120);
const HEAD_BYTES_MAX: usize = 16 << 10;

pub(super) struct Door {
    router: Router,
    places: Arc<Semaphore>,
    refused: IntCounter,
}

impl Door {
    pub(super) fn new(router: Router, refused: IntCounter) -> Self {
        Door {
            router,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            refused,
        }
    }

    /// Lets callers in until `stop`; then the answers under way are finished.
    pub(super) async fn keep<L>(self, mut listener: L, stop: CancellationToken)
    where
        L: Listener,
        L::Addr: Debug,
        Caller: From<L::Addr>,
    {
        let callers = TaskTracker::new();
        loop {
            let (stream, address) = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let Ok(place) = self.places.clone().try_acquire_owned() else {
                self.refused.inc();
                continue;
            };
            let (router, stop) = (self.router.clone(), stop.clone());
            let caller = Caller::from(address);
            callers.spawn(async move {
                converse(stream, caller, router, stop).await;
                drop(place);
            });
        }
        callers.close();
        callers.wait().await;
    }
}

async fn converse<S>(stream: S, caller: Caller, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (asked, patience) = watch::channel(Instant::now());
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        asked.send_replace(Instant::now());
        request.extensions_mut().insert(ConnectInfo(caller));
        let answer = router.clone().oneshot(request.map(Body::new));
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut stopping = false;
    loop {
        // An idle connection is closed by hyper before this.
        let last_asked = *patience.borrow();
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!("an admin connection ended: {error}");
                }
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep_until(last_asked + EXCHANGE_TIMEOUT) => {
                if *patience.borrow() == last_asked {
                    tracing::debug!("an admin connection took too long");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// A conversation, and the caller's end of it.
    fn begin() -> (impl Future<Output = ()>, DuplexStream) {
        let large = || async { vec![b'x'; 100_000] };
        let router = Router::new().route("/large", get(large));
        let (near, far) = duplex(1000);
        let caller = Caller::from("127.0.0.1:1".parse::<std::net::SocketAddr>().unwrap());
        (
            converse(near, caller, router, CancellationToken::new()),
            far,
        )
    }

    async fn lasts(conversation: impl Future<Output = ()>) -> Duration {
        let begun = Instant::now();
        conversation.await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_to_its_end_is_not_waited_for() {
        let (conversation, mut far) = begin();
        far.write_all(b"GET /large HTTP/1.1\r\nhost: w")
            .await
            .unwrap();
        assert_eq!(
            lasts(conversation).await.as_secs(),
            HEADER_TIMEOUT.as_secs()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_takes_no_answer_is_let_go() {
        let (conversation, mut far) = begin();
        far.write_all(b"GET /large HTTP/1.1\r\nhost: weir\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(
            lasts(conversation).await.as_secs(),
            EXCHANGE_TIMEOUT.as_secs()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_caller_keeps_its_place_for_a_while() {
        let (conversation, mut far) = begin();
        let asking = async {
            let mut answers = vec![0; 100_000];
            for _ in 0..8 {
                far.write_all(b"GET /large HTTP/1.1\r\nhost: weir\r\n\r\n")
                    .await
                    .unwrap();
                far.read_exact(&mut answers).await.unwrap();
                tokio::time::sleep(HEADER_TIMEOUT / 2).await;
            }
            let mut rest = Vec::new();
            far.read_to_end(&mut rest).await.unwrap();
        };
        // Longer than one exchange may take, as every request begins anew.
        let (lasted, ()) = tokio::join!(lasts(conversation), asking);
        assert!(lasted >= 4 * HEADER_TIMEOUT, "{lasted:?}");
        assert!(lasted < 5 * HEADER_TIMEOUT, "{lasted:?}");
    }
}
