//! A connection whose client may be slow, but must take something now and then, or fast, but must
//! let others have their turn.
//!
//! A client that takes no byte for `send_timeout` while there is something to send is let go. The
//! time a client takes to ask is the business of the HTTP layer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::seats::Chair;

/// What a client is sent before others get their turn. A client on the same machine takes bytes as
/// fast as they come and would keep the worker for as long as its blob is.
const TURN_BYTES: usize = 4 << 20;

pub(super) struct Unhurried<S> {
    stream: S,
    send_timeout: Duration,
    /// Runs while the client takes nothing. Made once, when it is first needed.
    patience: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// Sent since somebody else had a turn.
    turn_bytes: usize,
    chair: Arc<Chair>,
}

impl<S> Unhurried<S> {
    pub(super) fn new(stream: S, send_timeout: Duration, chair: Arc<Chair>) -> Self {
        Unhurried {
            stream,
            send_timeout,
            patience: None,
            waiting: false,
            turn_bytes: 0,
            chair,
        }
    }

    fn set_waiting(&mut self, waiting: bool) {
        if self.waiting != waiting {
            self.waiting = waiting;
            self.chair.set_unsent(waiting);
        }
    }

    /// Whether this connection has had its turn; it is called again at once when others had theirs.
    fn gives_way(&mut self, cx: &mut Context<'_>) -> bool {
        let over = self.turn_bytes >= TURN_BYTES;
        if over {
            self.turn_bytes = 0;
            cx.waker().wake_by_ref();
        }
        over
    }

    fn judge_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.turn_bytes += bytes;
        }
        self.judge(cx, written)
    }

    fn judge<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.set_waiting(false);
            return written;
        }
        self.turn_bytes = 0;
        let begins = !self.waiting;
        self.set_waiting(true);
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(sleep(self.send_timeout)));
        if begins {
            patience.as_mut().reset(Instant::now() + self.send_timeout);
        }
        match patience.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unhurried<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unhurried<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.gives_way(cx) {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.gives_way(cx) {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.judge_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(cx, shut_down)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_client_that_takes_everything_at_once_leaves_others_their_turn() {
        let mut near = Unhurried::new(tokio::io::sink(), Duration::from_secs(30), Arc::default());
        let turns = std::cell::Cell::new(0);
        let sending = async {
            for _ in 0..4 {
                near.write_all(&vec![7; TURN_BYTES]).await.unwrap();
            }
        };
        let other = async {
            loop {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = sending => {}
            () = other => {}
        }
        assert_eq!(turns.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_let_go_and_a_slow_one_is_not() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut near = Unhurried::new(near, Duration::from_secs(30), Arc::default());
        let reading = async {
            let mut taken = [0; 4];
            for _ in 0..3 {
                sleep(Duration::from_secs(29)).await;
                far.read_exact(&mut taken).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(near.write_all(&[7; 16]), reading);
        written.unwrap();
        let error = near.write_all(&[7; 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
