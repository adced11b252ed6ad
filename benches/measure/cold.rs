//! Rows about content that is not in the cache yet, measured from the client and at the upstream.

use std::fs::{self, File};
use std::io::Write as _;

use anyhow::Result;

use super::content::{Image, Item};
use super::load::{self, Ask, Plan, Report, Until};
use super::peers::{Bench, with_cpu};
use super::servers::{Server, pull};
use super::sheet::Sheet;
use super::wire::Place;

const HERD: usize = 100;
/// More than a sample needs, and less than what a host takes as soon as it is free.
const TAKEN_BACK_BYTES: usize = 800 << 20;

fn ask(item: &Item) -> Ask {
    Ask::new(item.path.clone(), item.length)
}

/// A server on an empty cache whose client holds the manifest already, as it does when it comes to
/// the layers.
fn begun(bench: &Bench, name: &'static str, image: &Image) -> Result<Server> {
    let server = bench.cold_server(name)?;
    pull(&server.place, vec![ask(&image.by_tag)])?;
    // What the last sample left to be written would be paid for by this one.
    rustix::fs::sync();
    take_memory_back(bench)?;
    Ok(server)
}

/// The host of a virtual machine takes free memory for itself. What a page costs that it has to give
/// again, ten times what writing to it costs otherwise, would be all that these rows measure. So a
/// file is written and removed: its pages are as large, and lie where, those of a blob will.
fn take_memory_back(bench: &Bench) -> Result<()> {
    let path = bench.site.folder.join("taken-back");
    let mut file = File::create(&path)?;
    let piece = vec![1; 1 << 20];
    for _ in 0..TAKEN_BACK_BYTES / piece.len() {
        file.write_all(&piece)?;
    }
    fs::remove_file(&path)?;
    Ok(())
}

/// How much later the first byte comes than straight from the upstream.
pub(crate) fn first_byte(bench: &Bench, sheet: &mut Sheet) -> Result<()> {
    let image = &bench.content.usual;
    let layers = || image.layers.iter().map(ask).collect();
    let straight = pull(&bench.upstream.place, layers())?;
    sheet.add("first-byte", "upstream", straight.first_byte_ms.p50);
    for name in bench.cold_names() {
        let server = begun(bench, name, image)?;
        sheet.add(
            "first-byte",
            name,
            pull(&server.place, layers())?.first_byte_ms.p50,
        );
    }
    Ok(())
}

/// One client, one large blob.
pub(crate) fn one_client(bench: &Bench, sheet: &mut Sheet) -> Result<()> {
    let image = &bench.content.large;
    let layers = || image.layers.iter().map(ask).collect();
    let (straight, cpu) = with_cpu(&bench.upstream.process, || {
        pull(&bench.upstream.place, layers())
    })?;
    sheet.add("cold", "upstream", straight.seconds);
    sheet.add("cold-cpu", "upstream", cpu / straight.gib());
    for name in bench.cold_names() {
        let server = begun(bench, name, image)?;
        let (report, cpu) = with_cpu(&server.process, || pull(&server.place, layers()))?;
        sheet.add("cold", name, report.seconds);
        sheet.add("cold-cpu", name, cpu / report.gib());
    }
    Ok(())
}

/// One client, one large blob, from an upstream that holds each connection to a rate.
pub(crate) fn throttled(bench: &Bench, sheet: &mut Sheet) -> Result<()> {
    let image = &bench.content.throttled;
    let layers = || image.layers.iter().map(ask).collect();
    let straight = pull(&bench.throttled, layers())?;
    sheet.add("throttled", "upstream", straight.seconds);
    if bench.weir.is_some() {
        let server = bench.site.weir("throttled-weir", &bench.throttled, false)?;
        pull(&server.place, vec![ask(&image.by_tag)])?;
        let report = pull(&server.place, layers())?;
        sheet.add("throttled", "weir", report.seconds);
    }
    Ok(())
}

/// A hundred clients, one large blob, cold; beside it the same from nginx, warm.
pub(crate) fn herd(bench: &Bench, sheet: &mut Sheet) -> Result<()> {
    let image = &bench.content.large;
    let warm = stampede(&bench.nginx.place, image)?;
    sheet.add("herd", "nginx", warm.seconds);
    sheet.add("herd-first-byte", "nginx", warm.first_byte_ms.p50);
    for name in bench.cold_names() {
        let server = begun(bench, name, image)?;
        let before = bench.site.upstream_saw(0)?;
        let report = stampede(&server.place, image)?;
        let seen = bench.site.upstream_saw(before.log_end)?;
        sheet.add("herd", name, report.seconds);
        sheet.add("herd-first-byte", name, report.first_byte_ms.p50);
        sheet.add(
            "herd-bytes",
            name,
            seen.bytes as f64 / image.layers[0].length as f64,
        );
        sheet.add("herd-requests", name, seen.requests as f64);
    }
    Ok(())
}

fn stampede(place: &Place, image: &Image) -> Result<Report> {
    load::run(&Plan {
        place: place.clone(),
        asks: vec![ask(&image.layers[0])],
        connections: HERD,
        until: Until::Each(1),
    })?
    .checked()
}
