//! Reading Prometheus text: the values of one scrape.

use std::collections::{BTreeMap, BTreeSet};

/// One scrape of `/metrics`.
#[derive(Debug, Default)]
pub struct Scrape {
    /// The text as it came.
    pub text: String,
    series: Vec<Series>,
    /// Type of each name.
    pub types: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    pub fn parse(text: &str) -> Self {
        let mut scrape = Scrape {
            text: text.to_owned(),
            ..Scrape::default()
        };
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a TYPE line has a type");
                scrape.types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') && !line.is_empty() {
                scrape.series.push(Series::parse(line));
            }
        }
        scrape
    }

    /// The sum of every series of this name whose labels have these values.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fitting = self.series.iter().filter(|series| {
            let has = |(label, value): &(&str, &str)| {
                series.labels.get(*label).map(String::as_str) == Some(*value)
            };
            series.name == name && labels.iter().all(has)
        });
        fitting.map(|series| series.value).sum()
    }

    pub fn has(&self, name: &str) -> bool {
        self.series.iter().any(|series| series.name == name)
    }

    /// Every label name of every series of this name.
    pub fn labels(&self, name: &str) -> BTreeSet<&str> {
        let series = self.series.iter().filter(|series| series.name == name);
        series
            .flat_map(|series| series.labels.keys())
            .map(String::as_str)
            .collect()
    }
}

impl Series {
    fn parse(line: &str) -> Self {
        let (head, value) = line.rsplit_once(' ').expect("a series has a value");
        let (name, labels) = match head.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}').expect("labels are closed")),
            None => (head, ""),
        };
        let pairs = labels.split("\",").filter_map(|pair| {
            let (label, value) = pair.split_once("=\"")?;
            Some((label.to_owned(), value.trim_end_matches('"').to_owned()))
        });
        Series {
            name: name.to_owned(),
            labels: pairs.collect(),
            value: value.parse().expect("a number"),
        }
    }
}
