//! The threads that wait for the disk.
//!
//! They are few, and step back where the processors are wanted: whoever asks for what is in memory
//! is not to wait for those whose bytes come from the disk. More of them would get little more out
//! of a disk.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// How far they step back, as `nice` counts. Measured with manifests being asked for as fast as they
/// come, beside 8 clients on blobs from the disk, p99 and the blobs' throughput: 0 gives 6.2 ms and
/// 1.2 GiB/s, 10 gives 3.7 ms and 0.9 GiB/s, 19 gives 4.7 ms and 0.7 GiB/s.
const STEP_BACK: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// As many threads as there are processors; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Readers {
    /// One job waits for each connection at most.
    jobs: Sender<Job>,
}

impl Readers {
    pub(super) fn new() -> Readers {
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let threads = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            let waiting = Arc::clone(&waiting);
            let started = thread::Builder::new()
                .name("weir-reader".into())
                .spawn(move || work(&waiting));
            if let Err(error) = started {
                tracing::warn!(%error, "a thread that reads from the disk was not to be had");
            }
        }
        Readers { jobs }
    }

    /// What `reading` gives, which may block.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        reading: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (tell, told) = oneshot::channel();
        let job = move || {
            // Nobody listens where the client has left.
            let _ = tell.send(reading());
        };
        let gone = || io::Error::other("no thread that reads from the disk is left");
        self.jobs.send(Box::new(job)).map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    // On Linux this is about the thread. A system that forbids it only loses what it is good for.
    if let Err(error) = rustix::process::nice(STEP_BACK) {
        tracing::debug!(%error, "a thread that reads from the disk keeps its priority");
    }
    loop {
        let job = {
            let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.recv()
        };
        match job {
            // A panic stays in its request, which is told by the end of its channel.
            Ok(job) => drop(catch_unwind(AssertUnwindSafe(job))),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn readers_step_back() {
        let own = getpriority_process(None).unwrap();
        let reading = Readers::new().run(|| Ok(getpriority_process(None)?)).await;
        assert_eq!(reading.unwrap(), (own + STEP_BACK).min(19));
    }

    #[tokio::test]
    async fn a_panic_stays_in_its_request() {
        let readers = Readers::new();
        for _ in 0..8 {
            let panicked = readers
                .run(|| -> io::Result<()> { panic!("as a test") })
                .await;
            assert!(panicked.is_err());
        }
        assert_eq!(readers.run(|| Ok(7)).await.unwrap(), 7);
    }
}
