//! Blobs that break on the way, and arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::server::{Reply, Seen, Server};
use super::world::*;
use crate::upstream::{Download, Error, ErrorKind, Wrong};

fn blob() -> Vec<u8> {
    (0..200_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// Answers like a server of files does.
fn serve(seen: &Seen, blob: &[u8]) -> Reply {
    let etag = r#""the-tag""#;
    let range = seen
        .header("range")
        .strip_prefix("bytes=")
        .unwrap_or_default();
    let if_range = seen.header("if-range");
    let Some((first, last)) = range
        .split_once('-')
        .filter(|_| if_range.is_empty() || if_range == etag)
    else {
        return Reply::ok(blob.to_vec()).header("etag", etag);
    };
    let first: usize = first.parse().expect("weir sends digits");
    let last = last.parse().unwrap_or(blob.len() - 1);
    if first >= blob.len() {
        return Reply::new(416).header("content-range", format!("bytes */{}", blob.len()));
    }
    Reply::new(206)
        .header("etag", etag)
        .header(
            "content-range",
            format!("bytes {first}-{last}/{}", blob.len()),
        )
        .body(blob[first..=last].to_vec())
}

async fn read(download: &mut Download) -> Result<Vec<u8>, Error> {
    let mut read = Vec::new();
    while let Some(piece) = download.chunk().await? {
        read.extend_from_slice(&piece);
    }
    Ok(read)
}

/// A server that cuts each body after so many bytes, the first `cuts` times.
async fn cutting(cuts: usize, after: usize) -> Server {
    let (blob, asked) = (blob(), AtomicUsize::new(0));
    Server::start(move |seen| {
        let reply = serve(seen, &blob);
        match asked.fetch_add(1, Ordering::SeqCst) < cuts {
            true => reply.cut_after(after),
            false => reply,
        }
    })
    .await
}

#[tokio::test]
async fn a_break_is_taken_up_where_it_was() {
    let server = cutting(3, 100_000).await;
    let (upstream, metrics) = one(registry("r.test", &[&server.url()]));
    let mut download = remote(&upstream, "r.test/a")
        .blob(&sha256(b""), 0)
        .await
        .unwrap();
    assert_eq!(read(&mut download).await.unwrap(), blob());
    let asked = server.take();
    let ranges: Vec<_> = asked.iter().map(|seen| seen.header("range")).collect();
    assert_eq!(
        ranges,
        ["", "bytes=100000-", "bytes=200000-", "bytes=300000-"]
    );
    assert_eq!(asked[1].header("if-range"), r#""the-tag""#);
    assert!(scrape(&metrics).contains(r#"weir_upstream_resumed_total{registry="r.test"} 3"#));
}

#[tokio::test]
async fn a_transfer_begins_in_the_middle() {
    let server = cutting(1, 10).await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let remote = remote(&upstream, "r.test/a");
    let mut download = remote.blob(&sha256(b""), 5_000).await.unwrap();
    assert_eq!(
        (download.offset(), download.length()),
        (5_000, Some(800_000))
    );
    assert_eq!(read(&mut download).await.unwrap(), blob()[5_000..]);
    let mut download = remote.blob(&sha256(b""), 800_000).await.unwrap();
    assert_eq!(read(&mut download).await.unwrap(), b"");
    let mut download = remote.blob_range(&sha256(b""), 7, 11).await.unwrap();
    assert_eq!(read(&mut download).await.unwrap(), blob()[7..12]);
}

#[tokio::test]
async fn a_server_that_ignores_range_is_read_up_to_where_we_were() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Reply::ok(blob()).cut_after(300_000 + asked.load(Ordering::SeqCst)),
        _ => Reply::ok(blob()),
    })
    .await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let remote = remote(&upstream, "r.test/a");
    let mut download = remote.blob(&sha256(b""), 0).await.unwrap();
    assert_eq!(read(&mut download).await.unwrap(), blob());
    // Asked for more than it gives: the caller is told where it begins.
    let mut download = remote.blob(&sha256(b""), 100).await.unwrap();
    assert_eq!(download.offset(), 0);
    assert_eq!(read(&mut download).await.unwrap(), blob());
    let mut download = remote.blob_range(&sha256(b""), 5, 9).await.unwrap();
    assert_eq!(download.offset(), 0);
    assert_eq!(read(&mut download).await.unwrap(), blob()[..10]);
}

#[tokio::test]
async fn a_signed_url_that_expired_is_asked_for_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let signed = Arc::clone(&asked);
    let cdn = Server::start(move |seen| {
        let number = signed.load(Ordering::SeqCst);
        let reply = serve(seen, &blob());
        match seen.path == format!("/signed/{number}") {
            true if number < 3 => reply.cut_after(50_000),
            true => reply,
            false => Reply::new(403),
        }
    })
    .await;
    let there = cdn.url_as("localhost");
    let server = Server::start(move |_| {
        let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::new(307).header("location", format!("{there}/signed/{number}"))
    })
    .await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let mut download = remote(&upstream, "r.test/a")
        .blob(&sha256(b""), 0)
        .await
        .unwrap();
    assert_eq!(read(&mut download).await.unwrap(), blob());
    assert_eq!(server.take().len(), 3);
}

#[tokio::test]
async fn another_endpoint_takes_over() {
    let first = cutting(1, 1_000).await;
    let second = Server::start(|seen| serve(seen, &blob())).await;
    let (upstream, _) = one(registry("r.test", &[&first.url(), &second.url()]));
    let mut download = remote(&upstream, "r.test/a")
        .blob(&sha256(b""), 0)
        .await
        .unwrap();
    download.chunk().await.unwrap();
    drop(first);
    tokio::task::yield_now().await;
    let rest = read(&mut download).await.unwrap();
    assert_eq!(rest.last(), blob().last());
    assert_eq!(*download.source().endpoint, *second.url());
    assert_eq!(second.take()[0].header("range"), "bytes=1000-");
    assert_eq!(rest.len(), 799_000);
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |seen| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => serve(seen, &blob()).stall_after(4_000),
        _ => serve(seen, &blob()),
    })
    .await;
    let mut config = config(vec![registry("r.test", &[&server.url()])]);
    config.upstream.idle_timeout = Duration::from_millis(50);
    let (upstream, _) = upstream(&config);
    let mut download = remote(&upstream, "r.test/a")
        .blob(&sha256(b""), 0)
        .await
        .unwrap();
    assert_eq!(read(&mut download).await.unwrap(), blob());
}

#[tokio::test]
async fn no_progress_is_given_up_and_a_changed_length_is_wrong() {
    let server = Server::start(|seen| serve(seen, &blob()).cut_after(0)).await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let mut download = remote(&upstream, "r.test/a")
        .blob(&sha256(b""), 0)
        .await
        .unwrap();
    let error = read(&mut download).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Away(_)), "{error}");
    assert_eq!(server.take().len(), 6);

    let asked = AtomicUsize::new(0);
    let server = Server::start(move |seen| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => serve(seen, &blob()).cut_after(10),
        _ => serve(seen, &blob()[..1_000]),
    })
    .await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let mut download = remote(&upstream, "r.test/a")
        .blob(&sha256(b""), 0)
        .await
        .unwrap();
    let error = read(&mut download).await.unwrap_err();
    assert!(matches!(
        error.kind,
        ErrorKind::Wrong(Wrong::Length {
            expected: 800_000,
            found: 1_000
        })
    ));
}

#[tokio::test]
async fn a_body_without_length_is_read_to_its_end() {
    let server = Server::start(|_| Reply::ok(blob()).header("transfer-encoding", "chunked")).await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    let mut download = remote(&upstream, "r.test/a")
        .blob(&sha256(b""), 0)
        .await
        .unwrap();
    assert_eq!(download.length(), None);
    assert_eq!(read(&mut download).await.unwrap(), blob());
    assert!(download.chunk().await.unwrap().is_none());
}

#[tokio::test]
async fn a_blob_is_tried_for_while_the_registry_comes_back() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |seen| match asked.fetch_add(1, Ordering::SeqCst) {
        0..4 => Reply::new(503),
        _ => serve(seen, &blob()),
    })
    .await;
    let (upstream, _) = one(registry("r.test", &[&server.url()]));
    remote(&upstream, "r.test/a")
        .blob(&sha256(b""), 0)
        .await
        .unwrap();
    assert_eq!(server.take().len(), 5);
}
