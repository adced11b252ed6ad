//! The figures: one sample per row, server and round, and how they are judged and written down.
//!
//! Servers are compared within a round, because a shared machine drifts between rounds: a ratio is
//! the median of the rounds' ratios.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::marks::{Mark, ROWS, Row};

/// The columns, in the order shown.
pub(crate) const SERVERS: [&str; 5] = ["weir", "nginx", "nginx-cache", "distribution", "upstream"];

/// All samples of a run.
#[derive(Clone, Default)]
pub(crate) struct Sheet {
    samples: BTreeMap<(&'static str, &'static str), Vec<f64>>,
    /// Why a row has no figure of weir's.
    skipped: BTreeMap<&'static str, String>,
    /// Which build of weir a row was measured with.
    builds: BTreeMap<&'static str, String>,
    /// The build that is being measured.
    build: String,
}

impl Sheet {
    pub(crate) fn of_build(build: String) -> Self {
        Sheet {
            build,
            ..Sheet::default()
        }
    }

    /// Takes over the rows of an earlier table, as [`Sheet::json`] wrote them, that this run has
    /// nothing of.
    pub(crate) fn join(&mut self, earlier: &Value) {
        let measured: BTreeSet<_> = self.builds.keys().copied().collect();
        for found in earlier.as_array().into_iter().flatten() {
            let known = |row: &&Row| found["key"] == row.key && !measured.contains(row.key);
            let Some(row) = ROWS.iter().find(known) else {
                continue;
            };
            for server in SERVERS {
                let rounds = found["servers"][server]["rounds"].as_array();
                let samples: Vec<_> = rounds
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_f64)
                    .collect();
                if !samples.is_empty() {
                    self.samples.insert((row.key, server), samples);
                }
            }
            if let Some(build) = found["build"].as_str() {
                self.builds.insert(row.key, build.to_owned());
            }
            if let Some(why) = found["skipped"].as_str() {
                self.skipped.insert(row.key, why.to_owned());
            }
        }
    }

    /// Writes one sample down. Every server gets one in each round, or in none.
    pub(crate) fn add(&mut self, row: &'static str, server: &'static str, value: f64) {
        debug_assert!(ROWS.iter().any(|known| known.key == row), "{row} is no row");
        self.samples.entry((row, server)).or_default().push(value);
        self.builds.insert(row, self.build.clone());
    }

    pub(crate) fn skip(&mut self, row: &'static str, why: impl Into<String>) {
        self.builds.insert(row, self.build.clone());
        self.skipped.insert(row, why.into());
    }

    fn of(&self, row: &Row, server: &'static str) -> &[f64] {
        self.samples
            .get(&(row.key, server))
            .map_or(&[], Vec::as_slice)
    }

    fn figure(&self, row: &Row, server: &'static str) -> String {
        match median(self.of(row, server)) {
            Some(value) => show(value),
            None => "–".to_owned(),
        }
    }

    /// What is measured against the mark, and whether it is reached.
    fn judge(&self, row: &Row, mark: &Mark) -> Option<(f64, bool)> {
        let weir = self.of(row, "weir");
        let against = |other: &'static str, compare: fn(f64, f64) -> f64| {
            let pairs = weir.iter().zip(self.of(row, other));
            median(
                &pairs
                    .map(|(weir, other)| compare(*weir, *other))
                    .collect::<Vec<_>>(),
            )
        };
        let (value, reached): (f64, fn(f64, f64) -> bool) = match mark {
            Mark::MostTimes(_, other) => (against(other, |a, b| a / b)?, |a, b| a <= b),
            Mark::LeastTimes(_, other) => (against(other, |a, b| a / b)?, |a, b| a >= b),
            Mark::MostAbove(_, other) => (against(other, |a, b| a - b)?, |a, b| a <= b),
            Mark::Most(_) => (median(weir)?, |a, b| a <= b),
        };
        Some((value, reached(value, mark.bound())))
    }

    fn verdict(&self, row: &Row) -> (String, &'static str) {
        let mut said = Vec::new();
        let mut all = true;
        for mark in row.marks {
            let judged = self.judge(row, mark);
            all &= judged.is_some_and(|(_, reached)| reached);
            said.push(mark.say(judged.map(|(value, _)| show(value)).as_deref()));
        }
        let verdict = match (row.marks, self.skipped.get(row.key), all) {
            ([], _, _) => "",
            (_, Some(_), _) => "not measured",
            (_, None, true) => "yes",
            (_, None, false) => "**no**",
        };
        (said.join(", "), verdict)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("| what | {} | reach | reached |\n", SERVERS.join(" | "));
        text.push_str(&"|---".repeat(SERVERS.len() + 3));
        text.push_str("|\n");
        for row in &ROWS {
            let figures: Vec<_> = SERVERS
                .iter()
                .map(|server| self.figure(row, server))
                .collect();
            let (said, verdict) = self.verdict(row);
            let line = format!(
                "| {} | {} | {said} | {verdict} |\n",
                row.title,
                figures.join(" | ")
            );
            text.push_str(&line);
        }
        for (row, why) in &self.skipped {
            // Writing to a string cannot fail.
            let _written = writeln!(text, "\nNot measured, {row}: {why}");
        }
        let builds: BTreeSet<_> = self.builds.values().collect();
        if builds.len() > 1 {
            for build in builds {
                let rows = self.builds.iter().filter(|(_, of)| *of == build);
                let rows: Vec<_> = rows.map(|(row, _)| *row).collect();
                let _written = writeln!(text, "\nBuild {build} of weir: {}", rows.join(", "));
            }
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let row = |row: &Row| {
            let servers: BTreeMap<_, _> = SERVERS
                .iter()
                .filter_map(|server| Some((server, median(self.of(row, server))?)))
                .map(|(server, median)| (*server, (median, self.of(row, server))))
                .map(|(server, (median, all))| (server, json!({"median": median, "rounds": all})))
                .collect();
            let mark = |mark: &Mark| {
                let judged = self.judge(row, mark);
                json!({
                    "said": mark.say(None),
                    "bound": mark.bound(),
                    "measured": judged.map(|(value, _)| value),
                    "reached": judged.map(|(_, reached)| reached),
                })
            };
            json!({
                "key": row.key,
                "title": row.title,
                "servers": servers,
                "marks": row.marks.iter().map(mark).collect::<Vec<_>>(),
                "skipped": self.skipped.get(row.key),
                "build": self.builds.get(row.key),
            })
        };
        ROWS.iter().map(row).collect()
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Three digits that matter.
fn show(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        one if one >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
