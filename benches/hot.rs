//! The functions that every request meets, one by one: `cargo bench --bench hot`.
//!
//! Seconds on a shared machine drift; these are for comparing two versions side by side. What guards
//! against a slow change is the count of instructions in `benches/instructions`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use prometheus::Registry;
use weir::clock::Clock;
use weir::config::{self, Config};
use weir::oci::{Algorithm, Digest, Manifest, MediaType, Name, Request, Tag, Target};
use weir::route::Routes;
use weir::store::{Metrics, Store, TagRecord};

const HEX: &str = "1a3a3a44a486479d17f18ad0a48570f6d4653df05179fa92d04c0a6577c1b951";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

fn parsing(c: &mut Criterion) {
    let digest = format!("sha256:{HEX}");
    c.bench_function("parse a digest", |b| {
        b.iter(|| black_box(&digest).parse::<Digest>());
    });
    let blob = format!("/v2/library/postgres/blobs/sha256:{HEX}");
    c.bench_function("parse the path of a blob", |b| {
        b.iter(|| Request::parse(black_box(&blob)));
    });
    c.bench_function("parse the path of a tag", |b| {
        b.iter(|| Request::parse(black_box("/v2/library/postgres/manifests/17-alpine")));
    });
    let layer = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":1}}"#
    );
    let layers = vec![layer; 16].join(",");
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":1}},"layers":[{layers}]}}"#
    );
    let manifest = Manifest {
        digest: Digest::of(Algorithm::Sha256, text.as_bytes()),
        media_type: MediaType::new(MANIFEST_TYPE).expect("a media type"),
        bytes: text.into(),
    };
    c.bench_function("read what a manifest of 16 layers names", |b| {
        b.iter(|| black_box(&manifest).children());
    });
}

fn hashing(c: &mut Criterion) {
    let piece = vec![7u8; 1 << 20];
    let mut group = c.benchmark_group("hash 1 MiB");
    group.throughput(Throughput::Bytes(piece.len() as u64));
    for algorithm in Algorithm::ALL {
        group.bench_function(algorithm.as_str(), |b| {
            b.iter(|| Digest::of(algorithm, black_box(&piece)));
        });
    }
    group.finish();
}

fn configured(text: &str) -> Config {
    config::load_str(text, &[]).expect("a valid configuration")
}

fn routing(c: &mut Criterion) {
    let routes = Routes::new(&configured(""));
    let plain: Name = "library/postgres".parse().expect("a name");
    let prefixed: Name = "ghcr.io/acme/tools/app".parse().expect("a name");
    c.bench_function("route by ns", |b| {
        b.iter(|| routes.target(black_box(Some("docker.io")), Some("127.0.0.1:5000"), &plain));
    });
    c.bench_function("route by prefix", |b| {
        b.iter(|| routes.target(None, black_box(Some("127.0.0.1:5000")), &prefixed));
    });
}

fn storing(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = configured(&format!(
        "[cache]\ndirectory = '{}'\n",
        folder.path().display()
    ));
    let metrics = Metrics::new(&Registry::new());
    let store = Store::open(&config.cache, Clock::System, metrics).expect("a store");
    let digest = Digest::of(Algorithm::Sha256, b"layer");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(store.put(&digest, "layer".into()))
        .expect("room for five bytes");
    let target = Target::new(
        "docker.io".parse().expect("a registry"),
        "library/postgres".parse().expect("a repository"),
    );
    let tag: Tag = "17-alpine".parse().expect("a tag");
    let record = TagRecord {
        digest,
        media_type: MediaType::new(MANIFEST_TYPE).expect("a media type"),
        length: 2400,
        checked_at: Clock::System.now(),
    };
    let index = store.index();
    index.set_tag(&target, &tag, &record);
    index.link(&target, &mut std::iter::once(digest));
    c.bench_function("open a stored blob", |b| {
        b.iter_batched(
            || (),
            |()| store.blob(black_box(&digest)),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("look a tag up", |b| {
        b.iter(|| index.tag(black_box(&target), &tag));
    });
    c.bench_function("look a link up", |b| {
        b.iter(|| index.is_linked(black_box(&target), &digest));
    });
}

criterion_group!(hot, parsing, hashing, routing, storing);
criterion_main!(hot);
