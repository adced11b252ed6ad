//! What the store counts. Labels are closed sets, and every series is there from the first scrape.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

const ONCE: &str = "each name is registered once";

/// Where content was found not to be what its digest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundBad {
    /// When it came from an upstream.
    Publish,
    /// When it was to be read.
    Read,
    /// By the walk over the directory.
    Walk,
    /// By the background check.
    Scrub,
}

impl FoundBad {
    const ALL: [FoundBad; 4] = [
        FoundBad::Publish,
        FoundBad::Read,
        FoundBad::Walk,
        FoundBad::Scrub,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            FoundBad::Publish => "publish",
            FoundBad::Read => "read",
            FoundBad::Walk => "walk",
            FoundBad::Scrub => "scrub",
        }
    }
}

/// What was asked of the index when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IndexOperation {
    Open,
    Read,
    Write,
    Flush,
}

impl IndexOperation {
    const ALL: [IndexOperation; 4] = [
        IndexOperation::Open,
        IndexOperation::Read,
        IndexOperation::Write,
        IndexOperation::Flush,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            IndexOperation::Open => "open",
            IndexOperation::Read => "read",
            IndexOperation::Write => "write",
            IndexOperation::Flush => "flush",
        }
    }
}

/// Why content went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The cache was at `max_size`.
    Size,
    /// The file system was at `min_free`.
    Free,
    /// Nobody had asked for it within `max_age`.
    Age,
    /// The operator said so.
    Asked,
}

impl Reason {
    const ALL: [Reason; 4] = [Reason::Size, Reason::Free, Reason::Age, Reason::Asked];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Reason::Size => "size",
            Reason::Free => "free",
            Reason::Age => "age",
            Reason::Asked => "asked",
        }
    }
}

/// The store's series.
#[derive(Debug, Clone)]
pub struct Metrics {
    found_bad: IntCounterVec,
    index_errors: IntCounterVec,
    evictions: IntCounterVec,
    evicted_bytes: IntCounterVec,
    pub(super) bytes: IntGauge,
    pub(super) objects: IntGauge,
    pub(super) pinned_bytes: IntGauge,
    pub(super) staged_bytes: IntGauge,
    pub(super) max_bytes: IntGauge,
    pub(super) free: IntGauge,
    pub(super) no_room: IntCounter,
    pub(super) scrubbed_bytes: IntCounter,
}

impl Metrics {
    pub fn new(registry: &Registry) -> Self {
        let metrics = Metrics {
            found_bad: counters(
                registry,
                "weir_cache_verification_failures_total",
                "Content whose bytes did not match its digest, by where that was found.",
                "at",
            ),
            index_errors: counters(
                registry,
                "weir_cache_index_errors_total",
                "Failures of the index; each is answered as if the index were empty.",
                "operation",
            ),
            evictions: counters(
                registry,
                "weir_cache_evictions_total",
                "Blobs that were removed, by why they went.",
                "reason",
            ),
            evicted_bytes: counters(
                registry,
                "weir_cache_evicted_bytes_total",
                "Bytes of the blobs that were removed, by why they went.",
                "reason",
            ),
            bytes: gauge(registry, "weir_cache_bytes", "Bytes of stored blobs."),
            objects: gauge(registry, "weir_cache_objects", "Stored blobs."),
            pinned_bytes: gauge(
                registry,
                "weir_cache_pinned_bytes",
                "Bytes of stored blobs that are pinned.",
            ),
            staged_bytes: gauge(
                registry,
                "weir_cache_staged_bytes",
                "Bytes of files in staging, under way or left by an earlier process.",
            ),
            max_bytes: gauge(
                registry,
                "weir_cache_max_bytes",
                "Bytes of blobs that the cache may hold.",
            ),
            free: gauge(
                registry,
                "weir_cache_filesystem_free_bytes",
                "Free bytes of the file system that the cache lies on.",
            ),
            no_room: counter(
                registry,
                "weir_cache_no_room_total",
                "Content that was not stored because there was no room for it.",
            ),
            scrubbed_bytes: counter(
                registry,
                "weir_cache_scrubbed_bytes_total",
                "Bytes that the background check has read and hashed.",
            ),
        };
        for at in FoundBad::ALL {
            metrics.found_bad(at);
        }
        for operation in IndexOperation::ALL {
            metrics.index_error(operation);
        }
        for reason in Reason::ALL {
            metrics.evicted(reason, 0, 0);
        }
        metrics
    }

    pub(super) fn found_bad(&self, at: FoundBad) -> IntCounter {
        self.found_bad.with_label_values(&[at.as_str()])
    }

    pub(super) fn evicted(&self, reason: Reason, blobs: u64, bytes: u64) {
        let label = &[reason.as_str()];
        self.evictions.with_label_values(label).inc_by(blobs);
        self.evicted_bytes.with_label_values(label).inc_by(bytes);
    }

    pub(super) fn index_error(&self, operation: IndexOperation) -> IntCounter {
        self.index_errors.with_label_values(&[operation.as_str()])
    }
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> IntCounterVec {
    let counters = IntCounterVec::new(Opts::new(name, help), &[label]).expect(ONCE);
    registry.register(Box::new(counters.clone())).expect(ONCE);
    counters
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let counter = IntCounter::new(name, help).expect(ONCE);
    registry.register(Box::new(counter.clone())).expect(ONCE);
    counter
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let gauge = IntGauge::new(name, help).expect(ONCE);
    registry.register(Box::new(gauge.clone())).expect(ONCE);
    gauge
}
