//! Rows about content that is in the cache, and in the page cache unless said otherwise.

use std::path::PathBuf;
use std::thread;

use anyhow::Result;

use super::content::Item;
use super::load::{self, Ask, Plan, Until};
use super::peers::{Bench, with_cpu};
use super::process::Process;
use super::servers::Server;
use super::sheet::Sheet;
use super::wire::Place;

const MANIFEST_CONNECTIONS: usize = 32;
const COLD_READERS: usize = 8;

/// One blob of 64 MiB, over plain HTTP.
pub(crate) fn blobs(bench: &Bench, sheet: &mut Sheet) -> Result<()> {
    let rows = [(4, "blob-4", "blob-4-cpu"), (32, "blob-32", "blob-32-cpu")];
    for (connections, speed_row, cpu_row) in rows {
        for (name, server) in bench.warm_servers() {
            let place = server.place.clone();
            let (speed, cpu) = blob_speed(bench, place, &server.process, connections)?;
            sheet.add(speed_row, name, speed);
            sheet.add(cpu_row, name, cpu);
        }
    }
    Ok(())
}

/// The same over TLS; the client has to read what it gets, and shares the processors.
pub(crate) fn blobs_over_tls(bench: &Bench, sheet: &mut Sheet) -> Result<()> {
    let weir = bench
        .weir_tls
        .iter()
        .map(|server| ("weir", server, &server.place));
    for (name, server, place) in weir.chain([("nginx", &bench.nginx, &bench.nginx_tls)]) {
        let (speed, cpu) = blob_speed(bench, place.clone(), &server.process, 4)?;
        sheet.add("blob-tls", name, speed);
        sheet.add("blob-tls-cpu", name, cpu);
    }
    if bench.weir_tls.is_none() {
        sheet.skip("blob-tls", "this weir does not speak TLS yet");
    }
    Ok(())
}

/// GiB/s and CPU seconds per GiB.
fn blob_speed(
    bench: &Bench,
    place: Place,
    process: &Process,
    connections: usize,
) -> Result<(f64, f64)> {
    let layer = &bench.content.warm.layers[0];
    let plan = Plan {
        place,
        asks: vec![Ask::new(layer.path.clone(), layer.length)],
        connections,
        until: Until::After(bench.settings.sample),
    };
    let (report, cpu) = with_cpu(process, || load::run(&plan)?.checked())?;
    Ok((report.gib() / report.seconds, cpu / report.gib()))
}

/// The manifest by digest, and by a tag that is fresh.
pub(crate) fn manifests(bench: &Bench, sheet: &mut Sheet) -> Result<()> {
    let image = &bench.content.usual;
    let kinds = [
        (&image.by_digest, "digest-rate", "digest-p99", "digest-cpu"),
        (&image.by_tag, "tag-rate", "tag-p99", "tag-cpu"),
    ];
    for (item, rate_row, p99_row, cpu_row) in kinds {
        for (name, server) in bench.warm_servers() {
            let plan = manifest_plan(bench, server, item);
            let (report, cpu) = with_cpu(&server.process, || load::run(&plan)?.checked())?;
            sheet.add(rate_row, name, report.requests as f64 / report.seconds);
            sheet.add(p99_row, name, report.latency_ms.p99);
            sheet.add(cpu_row, name, cpu * 1e6 / report.requests as f64);
        }
    }
    Ok(())
}

fn manifest_plan(bench: &Bench, server: &Server, item: &Item) -> Plan {
    Plan {
        place: server.place.clone(),
        asks: vec![Ask::new(item.path.clone(), item.length)],
        connections: MANIFEST_CONNECTIONS,
        until: Until::After(bench.settings.sample),
    }
}

/// What the manifests' clients notice of other clients whose blobs come from the disk.
pub(crate) fn manifests_beside_cold_reads(bench: &Bench, sheet: &mut Sheet) -> Result<()> {
    for (name, server) in bench.warm_servers() {
        let manifests = manifest_plan(bench, server, &bench.content.usual.by_digest);
        let layers = bench.content.eight.layers.iter();
        let evicting = layers.map(|layer| Ask {
            evict: cached(server, layer)
                .or_else(|| Some(layer.file_in(&bench.content.document_root))),
            ..Ask::new(layer.path.clone(), layer.length)
        });
        let blobs = Plan {
            asks: evicting.collect(),
            connections: COLD_READERS,
            ..manifests.clone()
        };
        let alone = load::run(&manifests)?.checked()?;
        let (busy, readers) = thread::scope(|scope| {
            let readers = scope.spawn(|| load::run(&blobs)?.checked());
            let busy = load::run(&manifests)?.checked()?;
            anyhow::Ok((busy, readers.join().expect("the readers do not panic")?))
        })?;
        sheet.add("idle-p99", name, alone.latency_ms.p99);
        sheet.add("busy-p99", name, busy.latency_ms.p99);
        sheet.add(
            "busy-times",
            name,
            busy.latency_ms.p99 / alone.latency_ms.p99,
        );
        sheet.add("busy-blobs", name, readers.gib() / readers.seconds);
    }
    Ok(())
}

/// Where a cache keeps a blob, if it has it.
pub(crate) fn cached(server: &Server, layer: &Item) -> Option<PathBuf> {
    let text = layer.digest.to_string();
    let hex = text.trim_start_matches("sha256:");
    let places = [
        server.cache.join("blobs/sha256").join(hex),
        server
            .cache
            .join("docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data"),
    ];
    places.into_iter().find(|path| path.exists())
}
