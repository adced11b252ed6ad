//! OpenMetrics text, which the prometheus crate does not write.
//!
//! A counter's family goes without `_total` and its sample with it; everything else keeps its name,
//! also a gauge called `rate_limit_total`. Source: OpenMetrics 1.0.0, "Text format".

use std::fmt::{self, Write};

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the scraper prefers OpenMetrics 1.0 to the old text. Prometheus lists what it reads with
/// weights; a scraper that names OpenMetrics at all gives it the greatest.
pub(super) fn is_asked_for(accept: Option<&str>) -> bool {
    let entries = accept.into_iter().flat_map(|accept| accept.split(','));
    entries
        .map(|entry| entry.split(';').map(str::trim))
        .any(|mut parts| {
            let media_type = parts.next().unwrap_or_default();
            media_type.eq_ignore_ascii_case("application/openmetrics-text")
                && parts.all(|part| match part.split_once('=') {
                    Some(("version", version)) => version.starts_with("1."),
                    Some(("q", weight)) => weight.parse().is_ok_and(|weight: f32| weight > 0.0),
                    _ => true,
                })
        })
}

pub(super) fn encode(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for family in families {
        write_family(&mut text, family).expect("a String takes any text");
    }
    text.push_str("# EOF\n");
    text
}

fn write_family(to: &mut String, family: &MetricFamily) -> fmt::Result {
    let kind = family.get_field_type();
    let name = match kind {
        MetricType::COUNTER => family
            .name()
            .strip_suffix("_total")
            .unwrap_or(family.name()),
        MetricType::GAUGE | MetricType::HISTOGRAM | MetricType::SUMMARY | MetricType::UNTYPED => {
            family.name()
        }
    };
    let type_name = match kind {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "unknown",
    };
    writeln!(to, "# HELP {name} {}", Escaped(family.help()))?;
    writeln!(to, "# TYPE {name} {type_name}")?;
    for metric in family.get_metric() {
        let labels = metric.get_label();
        match kind {
            MetricType::COUNTER => {
                let value = metric.get_counter().get_value();
                write_sample(to, name, "_total", labels, None, value)?;
            }
            MetricType::GAUGE => {
                write_sample(to, name, "", labels, None, metric.get_gauge().get_value())?;
            }
            MetricType::HISTOGRAM => write_histogram(to, name, metric)?,
            MetricType::SUMMARY => write_summary(to, name, metric)?,
            MetricType::UNTYPED => {}
        }
    }
    Ok(())
}

fn write_histogram(to: &mut String, name: &str, metric: &Metric) -> fmt::Result {
    let labels = metric.get_label();
    let histogram = metric.get_histogram();
    let count = histogram.get_sample_count() as f64;
    let buckets = histogram
        .get_bucket()
        .iter()
        .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count() as f64))
        .filter(|(bound, _)| bound.is_finite())
        .chain([(f64::INFINITY, count)]);
    for (bound, count) in buckets {
        write_sample(to, name, "_bucket", labels, Some(("le", bound)), count)?;
    }
    let sum = histogram.get_sample_sum();
    write_sample(to, name, "_sum", labels, None, sum)?;
    write_sample(to, name, "_count", labels, None, count)
}

fn write_summary(to: &mut String, name: &str, metric: &Metric) -> fmt::Result {
    let labels = metric.get_label();
    let summary = metric.get_summary();
    for quantile in summary.get_quantile() {
        let at = Some(("quantile", quantile.quantile()));
        write_sample(to, name, "", labels, at, quantile.value())?;
    }
    write_sample(to, name, "_sum", labels, None, summary.sample_sum())?;
    let count = summary.sample_count() as f64;
    write_sample(to, name, "_count", labels, None, count)
}

fn write_sample(
    to: &mut String,
    name: &str,
    suffix: &str,
    labels: &[LabelPair],
    bound: Option<(&str, f64)>,
    value: f64,
) -> fmt::Result {
    write!(to, "{name}{suffix}")?;
    let mut separator = '{';
    for label in labels {
        write!(
            to,
            "{separator}{}=\"{}\"",
            label.name(),
            Escaped(label.value())
        )?;
        separator = ',';
    }
    if let Some((label, bound)) = bound {
        write!(to, "{separator}{label}=\"{}\"", Number(bound))?;
        separator = ',';
    }
    if separator == ',' {
        to.push('}');
    }
    writeln!(to, " {}", Number(value))
}

/// A number in the canonical form: `1.0`, `0.25`, `+Inf`.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            infinite if infinite == f64::INFINITY => f.write_str("+Inf"),
            infinite if infinite == f64::NEG_INFINITY => f.write_str("-Inf"),
            // Rust's debug form always has a point or an exponent, as the format asks for.
            number => write!(f, "{number:?}"),
        }
    }
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::super::{counters, gauges, histograms, scrape};
    use super::*;

    #[test]
    fn every_type_is_written_as_the_format_wants_it() {
        let registry = Registry::new();
        counters(&registry, "a_total", "Counted \"things\".", &["registry"])
            .with_label_values(&["x\\y\"z\n"])
            .inc_by(3);
        gauges(&registry, "rate_limit_total", "A gauge.", &["account"])
            .with_label_values(&["anonymous"])
            .set(100);
        histograms(&registry, "h_seconds", "Times.", &[0.25, 1.0], &["kind"])
            .with_label_values(&["blob"])
            .observe(0.5);
        let (content_type, text) = scrape(&registry, Some("application/openmetrics-text"));
        assert_eq!(content_type, CONTENT_TYPE);
        assert_eq!(
            text,
            "# HELP a Counted \\\"things\\\".\n\
             # TYPE a counter\n\
             a_total{registry=\"x\\\\y\\\"z\\n\"} 3.0\n\
             # HELP h_seconds Times.\n\
             # TYPE h_seconds histogram\n\
             h_seconds_bucket{kind=\"blob\",le=\"0.25\"} 0.0\n\
             h_seconds_bucket{kind=\"blob\",le=\"1.0\"} 1.0\n\
             h_seconds_bucket{kind=\"blob\",le=\"+Inf\"} 1.0\n\
             h_seconds_sum{kind=\"blob\"} 0.5\n\
             h_seconds_count{kind=\"blob\"} 1.0\n\
             # HELP rate_limit_total A gauge.\n\
             # TYPE rate_limit_total gauge\n\
             rate_limit_total{account=\"anonymous\"} 100.0\n\
             # EOF\n"
        );
    }

    #[test]
    fn prometheus_gets_openmetrics_and_curl_the_old_text() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert!(is_asked_for(Some(prometheus)));
        assert!(is_asked_for(Some(
            "application/openmetrics-text; version=1.0.0"
        )));
        for other in [
            None,
            Some("*/*"),
            Some("text/plain;version=0.0.4"),
            Some("application/openmetrics-text;version=0.0.1"),
            Some("application/openmetrics-text;q=0"),
        ] {
            assert!(!is_asked_for(other), "{other:?}");
        }
    }
}
