//! More connections than there are places: quiet ones make room, clients that are served stay, and
//! nobody holds a place by half a request.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::wait::in_time;
use crate::support::{Ended, Fault};
use crate::support::{Gate, HeldTime, House, On, Upstream, Weir, blob_path};

const PING: &[u8] = b"GET /v2/ HTTP/1.1\r\nHost: w\r\n\r\n";

async fn house(places: usize, time: &HeldTime) -> (Upstream, Weir) {
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    let house = House::in_front_of(&upstream)
        .config(&format!("[server]\nconnections_max = {places}"))
        .clock(time.clock());
    let weir = house.start().await;
    (upstream, weir)
}

/// A connection on which `sent` was sent and, where that was a request, answered.
async fn connection(weir: &Weir, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(weir.address())
        .await
        .expect("somebody listens");
    stream.write_all(sent).await.expect("it leaves");
    if sent.ends_with(b"\r\n\r\n") {
        let mut head = [0; 15];
        let what = "an answer".to_owned();
        in_time(what, stream.read_exact(&mut head))
            .await
            .expect("an answer");
        assert_eq!(&head, b"HTTP/1.1 200 OK");
    }
    stream
}

/// Reads until the other side closes.
async fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = in_time("the end".to_owned(), stream.read_to_end(&mut rest)).await;
}

async fn let_go(weir: &Weir) -> f64 {
    let scrape = weir.metrics().await;
    scrape.value("weir_client_connections_let_go_total", &[])
}

#[tokio::test]
async fn who_was_quiet_for_longest_makes_room() {
    for quiet in [PING, b"", b"GET /v2/ HTTP/1.1\r\nHo"] {
        let time = HeldTime::hold();
        let (_upstream, weir) = house(3, &time).await;
        let first = connection(&weir, quiet).await;
        time.pass(Duration::from_secs(2)).await;
        let mut others = vec![connection(&weir, PING).await, connection(&weir, PING).await];
        time.pass(Duration::from_secs(2)).await;
        weir.client().manifest("acme/app", "1").await.whole(200);
        closed(first).await;
        assert_eq!(let_go(&weir).await, 1.0);
        // The others were not disturbed.
        for other in &mut others {
            other.write_all(PING).await.expect("still open");
            let mut answer = vec![0; 64];
            let read = in_time("an answer".to_owned(), other.read(&mut answer)).await;
            assert!(read.expect("still open") > 0);
        }
    }
}

#[tokio::test]
async fn who_is_being_served_stays() {
    let time = HeldTime::hold();
    let (upstream, weir) = house(2, &time).await;
    let blob = upstream.blob("acme/app", 3_000_000);
    let gate = Gate::ajar(1_000_000);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let path = blob_path("acme/app", &blob.digest);
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut reader = weir.client().open(&path).await;
        reader.read_exact(500_000).await;
        readers.push(reader);
    }
    time.pass(Duration::from_secs(20)).await;
    let turned_away = weir.client().try_send(http::Method::GET, "/v2/").await;
    assert!(turned_away.is_err(), "both places are taken");
    gate.open();
    for reader in readers {
        let (rest, _) = time.pass_during(reader.rest()).await;
        assert_eq!(rest.ended, Ended::Whole);
        assert_eq!(rest.bytes, blob.bytes[500_000..]);
    }
    assert_eq!(let_go(&weir).await, 0.0);
}

#[tokio::test]
async fn half_a_request_and_none_are_waited_for_only_so_long() {
    for sent in [PING, b"", b"GET /v2/ HTTP/1.1\r\nHost: w\r\nX-Slow: a"] {
        let time = HeldTime::hold();
        let (_upstream, weir) = house(100, &time).await;
        let stream = connection(&weir, sent).await;
        let ((), passed) = time.pass_during(closed(stream)).await;
        assert!(passed >= Duration::from_secs(14), "{passed:?}");
        assert!(passed <= Duration::from_secs(18), "{passed:?}");
    }
}
