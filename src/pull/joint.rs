//! One question at a time: whoever asks the same thing while it is being asked gets the same answer.
//!
//! The work runs in a task of its own, so nobody is special: any client may leave, the first one
//! too, and the others still get their answer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub(super) struct Joint<K, V> {
    running: Mutex<HashMap<K, watch::Receiver<Option<V>>>>,
}

impl<K, V> Default for Joint<K, V> {
    fn default() -> Self {
        Joint {
            running: Mutex::default(),
        }
    }
}

/// Whether this call began the work or found it under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Began,
    Joined,
}

impl<K, V> Joint<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Runs `work` under `key`, or waits for the run that is under way. `None` where the work
    /// panicked or its runtime is going down.
    pub(super) async fn run<F>(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        key: K,
        work: impl FnOnce() -> F,
    ) -> Option<(V, Part)>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (mut answer, part) = self.begin(tasks, key, work);
        let told = answer.wait_for(Option::is_some).await.ok()?;
        told.clone().map(|value| (value, part))
    }

    /// Like [`Joint::run`], without waiting.
    pub(super) fn begin<F>(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        key: K,
        work: impl FnOnce() -> F,
    ) -> (watch::Receiver<Option<V>>, Part)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = self.lock();
        if let Some(answer) = running.get(&key) {
            return (answer.clone(), Part::Joined);
        }
        let (tell, answer) = watch::channel(None);
        running.insert(key.clone(), answer.clone());
        drop(running);
        let under_way = UnderWay {
            joint: Arc::clone(self),
            key,
        };
        let work = work();
        tasks.spawn(async move {
            let value = work.await;
            // Whoever comes from here on asks anew.
            drop(under_way);
            tell.send_replace(Some(value));
        });
        (answer, Part::Began)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, watch::Receiver<Option<V>>>> {
        // The map is whole between any two statements, so a panic elsewhere leaves nothing half done.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the key out of the map, however the work ends.
struct UnderWay<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + Sync + 'static> {
    joint: Arc<Joint<K, V>>,
    key: K,
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + Sync + 'static> Drop
    for UnderWay<K, V>
{
    fn drop(&mut self) {
        self.joint.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn those_who_ask_together_share_one_run() {
        let joint: Arc<Joint<&str, usize>> = Arc::default();
        let (tasks, runs, gate) = (
            TaskTracker::new(),
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Notify::new()),
        );
        let ask = || {
            let (joint, tasks, runs, gate) =
                (joint.clone(), tasks.clone(), runs.clone(), gate.clone());
            tokio::spawn(async move {
                let work = move || async move {
                    gate.notified().await;
                    runs.fetch_add(1, Ordering::SeqCst) + 1
                };
                joint.run(&tasks, "key", work).await
            })
        };
        let asked: Vec<_> = (0..10).map(|_| ask()).collect();
        // The first one leaves; its work goes on.
        while joint.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        asked[0].abort();
        gate.notify_one();
        for one in asked.into_iter().skip(1) {
            assert_eq!(one.await.unwrap().unwrap().0, 1);
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(joint.lock().is_empty());
    }

    #[tokio::test]
    async fn work_that_panics_leaves_the_key_free() {
        let joint: Arc<Joint<&str, ()>> = Arc::default();
        let tasks = TaskTracker::new();
        let told = joint
            .run(&tasks, "key", || async { panic!("as this test wants") })
            .await;
        assert!(told.is_none());
        assert!(joint.run(&tasks, "key", || async {}).await.is_some());
    }
}
