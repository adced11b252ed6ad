//! The rows of the table, and the marks that weir sets itself in each.
//!
//! A row without marks is there to be read beside the others.

use Mark::{LeastTimes, Most, MostAbove, MostTimes};

/// One line of the table: one figure for each server.
pub(crate) struct Row {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) marks: &'static [Mark],
}

/// What weir's figure has to be.
pub(crate) enum Mark {
    /// At most so many times another server's.
    MostTimes(f64, &'static str),
    /// At least so many times another server's.
    LeastTimes(f64, &'static str),
    /// At most so much more than another server's.
    MostAbove(f64, &'static str),
    /// At most this.
    Most(f64),
}

impl Mark {
    pub(crate) fn bound(&self) -> f64 {
        match self {
            MostTimes(bound, _) | LeastTimes(bound, _) | MostAbove(bound, _) | Most(bound) => {
                *bound
            }
        }
    }

    pub(crate) fn say(&self, measured: Option<&str>) -> String {
        let got = measured
            .map(|value| format!("{value} "))
            .unwrap_or_default();
        match self {
            MostTimes(bound, other) => format!("{got}× {other} (≤ {bound})"),
            LeastTimes(bound, other) => format!("{got}× {other} (≥ {bound})"),
            MostAbove(bound, other) => format!("{got}over {other} (≤ {bound})"),
            Most(bound) => format!("{got}(≤ {bound})"),
        }
    }
}

const fn row(key: &'static str, title: &'static str, marks: &'static [Mark]) -> Row {
    Row { key, title, marks }
}

const BLOB_CPU: &[Mark] = &[MostTimes(0.7, "nginx"), MostTimes(0.35, "distribution")];
const BLOB_SPEED: &[Mark] = &[LeastTimes(1.3, "nginx"), LeastTimes(2.0, "distribution")];
const MANIFEST_RATE: &[Mark] = &[LeastTimes(0.8, "nginx"), LeastTimes(3.0, "distribution")];
const MANIFEST_P99: &[Mark] = &[MostTimes(1.25, "nginx"), MostTimes(0.34, "distribution")];

pub(crate) static ROWS: [Row; 35] = [
    row(
        "blob-4-cpu",
        "warm blob, 4 connections, CPU s/GiB",
        BLOB_CPU,
    ),
    row("blob-4", "warm blob, 4 connections, GiB/s", BLOB_SPEED),
    row(
        "blob-32-cpu",
        "warm blob, 32 connections, CPU s/GiB",
        BLOB_CPU,
    ),
    row("blob-32", "warm blob, 32 connections, GiB/s", BLOB_SPEED),
    row(
        "blob-tls-cpu",
        "warm blob over TLS, 4 connections, CPU s/GiB",
        &[],
    ),
    row(
        "blob-tls",
        "warm blob over TLS, 4 connections, GiB/s",
        &[LeastTimes(1.0, "nginx")],
    ),
    row(
        "digest-rate",
        "manifest by digest, 32 connections, requests/s",
        MANIFEST_RATE,
    ),
    row(
        "digest-p99",
        "manifest by digest, 32 connections, p99 ms",
        MANIFEST_P99,
    ),
    row("digest-cpu", "manifest by digest, CPU µs each", &[]),
    row(
        "tag-rate",
        "manifest by fresh tag, 32 connections, requests/s",
        MANIFEST_RATE,
    ),
    row(
        "tag-p99",
        "manifest by fresh tag, 32 connections, p99 ms",
        MANIFEST_P99,
    ),
    row("tag-cpu", "manifest by fresh tag, CPU µs each", &[]),
    row("idle-p99", "manifest p99 ms, alone", &[]),
    row(
        "busy-p99",
        "manifest p99 ms, beside 8 clients on blobs out of page cache",
        &[],
    ),
    row("busy-times", "the same, times p99 alone", &[Most(3.0)]),
    row("busy-blobs", "the 8 clients beside it, GiB/s", &[]),
    row(
        "first-byte",
        "cold blob, first byte, ms",
        &[MostAbove(5.0, "upstream")],
    ),
    row(
        "cold",
        "cold blob of 512 MiB, one client, s",
        &[MostTimes(1.1, "upstream")],
    ),
    row("cold-cpu", "the same, CPU s/GiB", &[]),
    row(
        "throttled",
        "cold blob of 256 MiB, upstream holds a connection to 32 MiB/s, s",
        &[MostTimes(1.0, "upstream")],
    ),
    row(
        "herd",
        "100 clients on one cold blob of 512 MiB (nginx, upstream: warm), last done, s",
        &[MostTimes(1.5, "nginx")],
    ),
    row("herd-first-byte", "the same, first byte, median ms", &[]),
    row(
        "herd-bytes",
        "the same, bytes from upstream, × blob",
        &[Most(1.001)],
    ),
    row("herd-requests", "the same, requests at upstream", &[]),
    row(
        "memory",
        "1,000 blob downloads at once, anonymous MiB at most",
        &[Most(64.0)],
    ),
    row("memory-idle", "idle, resident MiB", &[Most(20.0)]),
    row("memory-idle-anonymous", "idle, anonymous MiB", &[]),
    row("binary", "stripped binary, MiB", &[Most(20.0)]),
    row(
        "start",
        "start with 100,000 cached blobs, ms to ready",
        &[Most(100.0)],
    ),
    row(
        "index-lookup",
        "1,000,000 index entries: look a link up, × at 10,000",
        &[Most(1.5)],
    ),
    row("index-lookup-us", "the same, µs", &[]),
    row(
        "index-touch",
        "1,000,000 index entries: open a blob and note its use, × at 10,000",
        &[Most(1.5)],
    ),
    row("index-touch-us", "the same, µs", &[]),
    row(
        "index-evict",
        "1,000,000 index entries: evict one, × at 10,000",
        &[Most(1.5)],
    ),
    row("index-evict-us", "the same, µs", &[]),
];
