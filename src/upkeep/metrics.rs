//! What the upkeep counts.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::clock::Timestamp;

const ONCE: &str = "each name is registered once";

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Load,
    Index,
    Room,
    Expire,
    Sweep,
    Walk,
    Prune,
    Scrub,
}

impl Task {
    const ALL: [Task; 8] = [
        Task::Load,
        Task::Index,
        Task::Room,
        Task::Expire,
        Task::Sweep,
        Task::Walk,
        Task::Prune,
        Task::Scrub,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Task::Load => "load",
            Task::Index => "index",
            Task::Room => "room",
            Task::Expire => "expire",
            Task::Sweep => "sweep",
            Task::Walk => "walk",
            Task::Prune => "prune",
            Task::Scrub => "scrub",
        }
    }
}

/// The upkeep's series.
#[derive(Debug, Clone)]
pub struct Metrics {
    failures: IntCounterVec,
    last_run: IntGaugeVec,
}

impl Metrics {
    pub fn new(registry: &Registry) -> Self {
        let failures = Opts::new(
            "weir_upkeep_failures_total",
            "Work of the upkeep that failed and is tried again later.",
        );
        let last_run = Opts::new(
            "weir_upkeep_last_run_timestamp_seconds",
            "When work of this kind was last done; 0 before the first time.",
        );
        let metrics = Metrics {
            failures: IntCounterVec::new(failures, &["task"]).expect(ONCE),
            last_run: IntGaugeVec::new(last_run, &["task"]).expect(ONCE),
        };
        registry
            .register(Box::new(metrics.failures.clone()))
            .expect(ONCE);
        registry
            .register(Box::new(metrics.last_run.clone()))
            .expect(ONCE);
        for task in Task::ALL {
            metrics.failures.with_label_values(&[task.as_str()]);
            metrics.last_run.with_label_values(&[task.as_str()]);
        }
        metrics
    }

    pub(super) fn ran(&self, task: Task, at: Timestamp) {
        let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
        self.last_run
            .with_label_values(&[task.as_str()])
            .set(seconds);
    }

    pub(super) fn failed(&self, task: Task) {
        self.failures.with_label_values(&[task.as_str()]).inc();
    }
}
