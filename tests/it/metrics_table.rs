//! The table of metrics and a live scrape say the same, in both directions.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::scrape::Scrape;
use crate::support::{House, Upstream, Weir, eventually_async};

/// One row of the table.
#[derive(Debug)]
struct Row {
    kind: String,
    labels: BTreeSet<String>,
    /// Absent until something happens, or while something is not known.
    late: bool,
}

fn table() -> BTreeMap<String, Row> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/METRICS.md");
    let text = std::fs::read_to_string(path).expect("the table");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| `")?.split(" | ").collect();
        let [name, kind, labels, meaning] = cells[..] else {
            panic!("a row has four cells: {line}");
        };
        // Every second piece stands between backquotes.
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned);
        let row = Row {
            kind: kind.to_owned(),
            labels: labels.collect(),
            late: meaning.contains("from the first") || meaning.contains("absent"),
        };
        Some((name.trim_end_matches('`').to_owned(), row))
    });
    rows.collect()
}

/// A weir with everything that there is to tell of, behind which something happened.
async fn busy() -> (Upstream, Weir) {
    let upstream = Upstream::with(|settings| settings.quota = Some(100)).await;
    upstream.image("acme/app:1");
    let key = rcgen::generate_simple_self_signed(["weir.test".to_owned()]).expect("a certificate");
    let house = House::in_front_of(&upstream);
    let certificate = house.file("client.pem", &key.cert.pem());
    let private = house.file("client.key", &key.signing_key.serialize_pem());
    let weir = house
        .config(&format!(
            "[registries.\"other.test\"]\nendpoints = [\"https://127.0.0.1:1\"]\n\
             client_certificate = {:?}\nclient_key = {:?}",
            certificate.display().to_string(),
            private.display().to_string()
        ))
        .start()
        .await;
    weir.client().pull("acme/app", "1").await;
    (upstream, weir)
}

#[tokio::test]
async fn everything_in_the_table_is_scraped_and_everything_scraped_is_in_the_table() {
    let table = table();
    let (_upstream, weir) = busy().await;
    eventually_async("the requests are counted", async || {
        let metrics = weir.metrics().await;
        metrics.value("container_registry_pulls_total", &[("status", "success")]) >= 1.0
    })
    .await;
    let scrape = weir.metrics().await;
    for (name, kind) in &scrape.types {
        let row = table.get(name);
        let row = row.unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(row.kind, *kind, "{name}");
        let series = match kind.as_str() {
            "histogram" => format!("{name}_count"),
            _ => name.clone(),
        };
        let labels: BTreeSet<_> = scrape.labels(&series).into_iter().collect();
        let told: BTreeSet<_> = row.labels.iter().map(String::as_str).collect();
        assert_eq!(labels, told, "labels of {name}");
    }
    for name in table.keys() {
        assert!(scrape.types.contains_key(name), "{name} is not scraped");
    }
}

#[tokio::test]
async fn what_counts_from_the_start_is_there_at_the_first_scrape() {
    let weir = House::empty().start().await;
    let scrape: Scrape = weir.metrics().await;
    for (name, row) in table() {
        assert!(row.late || scrape.has(&name), "{name} comes late");
    }
}

#[test]
fn rules_and_dashboard_name_only_what_is_in_the_table() {
    const BEGINNINGS: [&str; 5] = [
        "weir_",
        "container_registry_",
        "registry_request_",
        "rate_limit_",
        "docker_hub_",
    ];
    let table = table();
    for file in [
        "prometheus/alerts.yml",
        "prometheus/recording.yml",
        "grafana/dashboards/weir.json",
    ] {
        let path = format!("{}/deploy/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("a file of deploy");
        let in_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let words = text.split(|c| !in_word(c));
        // What is recorded by a rule has a colon.
        let named = words.filter(|word| !word.contains(':'));
        for word in named.filter(|word| BEGINNINGS.iter().any(|first| word.starts_with(first))) {
            let metric = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|end| word.strip_suffix(end))
                .unwrap_or(word);
            assert!(table.contains_key(metric), "{word} of {file}");
        }
    }
}
