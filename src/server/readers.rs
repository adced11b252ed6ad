//! The threads that wait for the disk.
//!
//! They are few and stand back: whoever asks for what is in memory is to have the processors first.
//! More of them would get little more out of a disk.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// How far they stand back, as `nice` counts it. Measured beside a load that takes all processors:
/// the further the better for that load, and the disk is kept busy all the same.
const NICE: i32 = 19;

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
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "reading from the disk stands back for nobody");
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
