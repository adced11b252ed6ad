//! What happens while nobody rings: the cache is loaded, compared with its files, kept within its
//! limits, checked, and its index kept up.
//!
//! No client ever waits for anything here. Whatever fails is logged, counted and tried again at its
//! next turn.

mod metrics;
mod scrub;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config;
use crate::store::{Chore, Store};

pub use metrics::Metrics;
use metrics::Task;

/// How long a kill may set recency and new content back in the index.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// An index that fails is opened again after this long.
const MEND_EVERY: Duration = Duration::from_secs(30);
/// Others write to the file system too, so room is looked for also when nobody asks.
const ROOM_EVERY: Duration = Duration::from_secs(30);
const WALK_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Files that the walk looks at before it gives way.
const WALK_STEP: usize = 2000;
const WALK_PAUSE: Duration = Duration::from_millis(20);
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// A partial file that nobody took up again for this long goes.
const STAGED_KEPT_FOR: Duration = Duration::from_secs(3 * 24 * 3600);
/// What was noted about content that is not stored any more, and nobody asked for again, goes.
const FACTS_KEPT_FOR: Duration = Duration::from_secs(90 * 24 * 3600);
/// Content is found too old at most this late, or a tenth of its age.
const EXPIRE_EVERY_MAX: Duration = Duration::from_secs(3600);
const EXPIRE_EVERY_MIN: Duration = Duration::from_secs(60);

/// The caretaker of one store.
#[derive(Debug)]
pub struct Upkeep {
    store: Arc<Store>,
    clock: Clock,
    metrics: Metrics,
    dials: Dials,
}

/// What can be set while the upkeep runs.
#[derive(Debug, Clone)]
pub struct Dials(watch::Sender<Settings>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    max_age: Option<Duration>,
    /// Bytes a second; 0: nothing is checked by itself.
    scrub_rate: u64,
}

impl From<&config::Cache> for Settings {
    fn from(config: &config::Cache) -> Self {
        Settings {
            max_age: config.max_age,
            scrub_rate: config.scrub_rate,
        }
    }
}

impl Dials {
    pub fn turn(&self, config: &config::Cache) {
        let settings = Settings::from(config);
        self.0.send_if_modified(|current| {
            let differs = *current != settings;
            *current = settings;
            differs
        });
    }
}

impl Upkeep {
    pub fn new(config: &config::Cache, store: Arc<Store>, clock: Clock, metrics: Metrics) -> Self {
        Upkeep {
            store,
            clock,
            metrics,
            dials: Dials(watch::Sender::new(config.into())),
        }
    }

    /// For whoever takes up changed settings.
    pub fn dials(&self) -> Dials {
        self.dials.clone()
    }

    /// Runs until it is cancelled; then nothing of it is under way any more.
    pub async fn run(&self, cancel: CancellationToken) {
        let go_on = cancel.clone();
        let load = move |store: &Store| store.load(&|| !go_on.is_cancelled());
        self.blocking(Task::Load, load).await;
        tokio::join!(
            self.tell_index(&cancel),
            self.mend_index(&cancel),
            self.make_room(&cancel),
            self.expire(&cancel),
            self.sweep(&cancel),
            self.walk(&cancel),
            self.scrub(&cancel),
        );
    }

    async fn tell_index(&self, cancel: &CancellationToken) {
        while pause(TELL_EVERY, cancel).await {
            if self.store.has_news() {
                self.blocking(Task::Index, Store::tell_index).await;
            }
        }
    }

    async fn mend_index(&self, cancel: &CancellationToken) {
        while pause(MEND_EVERY, cancel).await {
            let go_on = cancel.clone();
            let mend = move |store: &Store| {
                store.mend_index();
                store.load_links(&|| !go_on.is_cancelled());
            };
            self.blocking(Task::Index, mend).await;
        }
    }

    async fn make_room(&self, cancel: &CancellationToken) {
        while !cancel.is_cancelled() {
            let go_on = cancel.clone();
            let make_room = move |store: &Store| store.make_room(&|| !go_on.is_cancelled());
            self.blocking(Task::Room, make_room).await;
            tokio::select! {
                () = self.store.asked_for(Chore::Room) => {}
                () = sleep(ROOM_EVERY) => {}
                () = cancel.cancelled() => {}
            }
        }
    }

    async fn expire(&self, cancel: &CancellationToken) {
        let mut settings = self.dials.0.subscribe();
        while !cancel.is_cancelled() {
            let max_age = settings.borrow_and_update().max_age;
            let every = max_age.map(|age| (age / 10).clamp(EXPIRE_EVERY_MIN, EXPIRE_EVERY_MAX));
            tokio::select! {
                () = pause_if_any(every) => {}
                // The sender is `self`'s own and outlives this.
                _ = settings.changed() => continue,
                () = cancel.cancelled() => return,
            }
            let Some(max_age) = max_age else { continue };
            let go_on = cancel.clone();
            let expire = move |store: &Store| store.expire(max_age, &|| !go_on.is_cancelled());
            self.blocking(Task::Expire, expire).await;
        }
    }

    async fn sweep(&self, cancel: &CancellationToken) {
        loop {
            let swept = self.blocking(Task::Sweep, |store| store.sweep(STAGED_KEPT_FOR));
            self.note_failure(Task::Sweep, swept.await.transpose());
            if !pause(SWEEP_EVERY, cancel).await {
                return;
            }
        }
    }

    async fn walk(&self, cancel: &CancellationToken) {
        while !cancel.is_cancelled() {
            let walked = self.walk_once(cancel).await;
            // What is not known to be stored may go only once everything stored is known.
            if let Ok(true) = walked {
                self.prune(cancel).await;
            }
            self.note_failure(Task::Walk, walked);
            tokio::select! {
                () = self.store.asked_for(Chore::Walk) => {}
                () = sleep(WALK_EVERY) => {}
                () = cancel.cancelled() => {}
            }
        }
    }

    async fn prune(&self, cancel: &CancellationToken) {
        let go_on = cancel.clone();
        let prune = move |store: &Store| {
            store.prune_index(FACTS_KEPT_FOR, &|| !go_on.is_cancelled());
        };
        self.blocking(Task::Prune, prune).await;
    }

    /// Whether the walk came to its end.
    async fn walk_once(&self, cancel: &CancellationToken) -> io::Result<bool> {
        let Some(walk) = self.blocking(Task::Walk, Store::walk).await else {
            return Ok(false);
        };
        let mut walk = walk?;
        loop {
            let step = move |_: &Store| {
                let step = walk.step(WALK_STEP);
                (walk, step)
            };
            let Some((going_on, step)) = self.blocking(Task::Walk, step).await else {
                return Ok(false);
            };
            walk = going_on;
            if let Some(walked) = step? {
                tracing::info!(
                    files = walked.files,
                    found = walked.found,
                    lost = walked.lost,
                    aside = walked.aside,
                    foreign = walked.foreign,
                    "the index agrees with the files"
                );
                self.store.ask_for(Chore::Room);
                return Ok(true);
            }
            if !pause(WALK_PAUSE, cancel).await {
                return Ok(false);
            }
        }
    }

    /// Does one piece of work where it may wait for the disk. `None` after a panic, which is logged.
    async fn blocking<T: Send + 'static>(
        &self,
        task: Task,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Option<T> {
        let store = Arc::clone(&self.store);
        let done: Result<T, JoinError> = spawn_blocking(move || work(&store)).await;
        match done {
            Ok(done) => {
                self.metrics.ran(task, self.clock.now());
                Some(done)
            }
            Err(error) => {
                self.metrics.failed(task);
                tracing::error!(task = task.as_str(), %error, "upkeep failed");
                None
            }
        }
    }

    fn note_failure<T>(&self, task: Task, result: io::Result<T>) {
        if let Err(error) = result {
            self.metrics.failed(task);
            tracing::warn!(task = task.as_str(), %error, "upkeep failed; it is tried again later");
        }
    }
}

/// Never ends where there is nothing to wait for.
async fn pause_if_any(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// Waits; `false` when it is time to stop.
async fn pause(duration: Duration, cancel: &CancellationToken) -> bool {
    tokio::select! {
        () = sleep(duration) => true,
        () = cancel.cancelled() => false,
    }
}
