//! Waiting for something to become true, with a generous deadline and without guessing how long it
//! takes.
//!
//! The deadlines and pauses here are real time, also where the test's clock stands still: they are
//! kept by a runtime of their own.

use std::panic::Location;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

const DEADLINE: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// Waits until `condition` holds; panics with `what` when it never does.
#[track_caller]
pub fn eventually(
    what: &'static str,
    mut condition: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
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
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + DEADLINE;
        while !condition().await {
            assert!(Instant::now() < deadline, "{caller}: never: {what}");
            pause().await;
        }
    }
}

/// Gives what the future gives; panics when that takes too long for any honest reason.
#[track_caller]
pub fn in_time<F: Future>(what: String, future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        tokio::select! {
            output = future => output,
            () = real_sleep(DEADLINE) => panic!("{caller}: still waiting: {what}"),
        }
    }
}

async fn pause() {
    real_sleep(BETWEEN_LOOKS).await;
}

pub(super) async fn real_sleep(duration: Duration) {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        let built = builder.worker_threads(1).enable_time().build();
        built.expect("a runtime can be built")
    });
    let slept = runtime.spawn(async move { tokio::time::sleep(duration).await });
    slept.await.expect("sleeping does not panic");
}
