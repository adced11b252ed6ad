//! Waiting for something to become true, with a generous deadline and without guessing how long it
//! takes.
//!
//! Real time passes between two looks even where tokio's clock stands still.

use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// Waits until `condition` holds; panics with `what` when it never does.
#[track_caller]
pub fn eventually(
    what: &'static str,
    mut condition: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + DEADLINE;
        while !condition() {
            assert!(Instant::now() < deadline, "{caller}: never: {what}");
            pause().await;
        }
    }
}

/// Polls an answer until it is what is wanted.
#[track_caller]
pub fn eventually_async<F: Future<Output = bool>>(
    what: &'static str,
    mut condition: impl FnMut() -> F,
) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + DEADLINE;
        while !condition().await {
            assert!(Instant::now() < deadline, "{caller}: never: {what}");
            pause().await;
        }
    }
}

pub(super) async fn pause() {
    let slept = tokio::task::spawn_blocking(|| std::thread::sleep(BETWEEN_LOOKS)).await;
    slept.expect("sleeping does not panic");
}
