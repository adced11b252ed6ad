//! Sockets that a service manager opened: served from the first request on, and across a restart.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use http::Method;

use crate::support::{Client, House, Upstream, eventually};

const PING: &[u8] = b"GET /v2/ HTTP/1.1\r\nHost: weir.internal\r\nConnection: close\r\n\r\n";

/// A socket that listens, and where.
fn bound() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

fn copy(socket: &TcpListener) -> OwnedFd {
    socket.try_clone().expect("a descriptor is free").into()
}

fn first_line(mut stream: impl Read) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an orderly end");
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_request_that_came_before_weir_is_answered() {
    let upstream = Upstream::start().await;
    upstream.image("library/alpine:3.20");
    let (socket, address) = bound();
    let mut early = TcpStream::connect(address).expect("somebody listens");
    early.write_all(PING).expect("it is sent");
    let weir = House::in_front_of(&upstream);
    let weir = weir.spawn_with([("weir.socket", socket.into())]).await;
    assert_eq!(first_line(early), "HTTP/1.1 200 OK");
    Client::new(address).pull("library/alpine", "3.20").await;
    weir.admin().get("/livez").await.whole(200);
}

#[tokio::test]
async fn a_restart_refuses_nobody() {
    let upstream = Upstream::start().await;
    upstream.image("library/alpine:3.20");
    let house = House::in_front_of(&upstream);
    let (socket, address) = bound();
    let mut weir = house.spawn_with([("registry", copy(&socket))]).await;
    let done = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let (done, answered) = (done.clone(), answered.clone());
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !done.load(Relaxed) {
                    match Client::new(address).try_send(Method::GET, "/v2/").await {
                        Ok(answer) => assert_eq!(answer.rest().await.status, 200),
                        Err(error) => failed.push(error.to_string()),
                    }
                    answered.fetch_add(1, Relaxed);
                }
                failed
            })
        })
        .collect();
    let more = |than: usize| {
        let answered = answered.clone();
        move || answered.load(Relaxed) > than + 20
    };
    eventually("clients ask", more(0)).await;
    for _ in 0..3 {
        weir.terminate();
        assert_eq!(weir.wait().await.code(), Some(0), "{}", weir.log());
        let before = answered.load(Relaxed);
        weir = house.spawn_with([("registry", copy(&socket))]).await;
        eventually("the next one answers", more(before)).await;
    }
    done.store(true, Relaxed);
    for asker in askers {
        let failed = asker.await.expect("askers do not panic");
        assert!(failed.is_empty(), "{failed:?}");
    }
}

#[tokio::test]
async fn a_name_says_what_a_socket_is_for() {
    let house = House::empty();
    let (socket, address) = bound();
    let weir = house.spawn_with([("admin", socket.into())]).await;
    assert!(weir.log().contains("no access rules"), "{}", weir.log());
    assert_eq!(weir.log().matches("credentials may pull").count(), 1);
    Client::new(address).get("/livez").await.whole(200);
    weir.client().get("/v2/").await.whole(200);
}

#[tokio::test]
async fn a_unix_socket_keeps_its_name_when_weir_ends() {
    let house = House::empty();
    let path = house.cache_directory().with_file_name("weir.sock");
    let unix = UnixListener::bind(&path).expect("a name is free");
    let (socket, address) = bound();
    let mut weir = house
        .spawn_with([("registry", unix.into()), ("http", copy(&socket))])
        .await;
    let mut client = UnixStream::connect(&path).expect("somebody listens");
    client.write_all(PING).expect("it is sent");
    assert_eq!(first_line(client), "HTTP/1.1 200 OK");
    Client::new(address).get("/v2/").await.whole(200);
    weir.terminate();
    assert_eq!(weir.wait().await.code(), Some(0));
    assert!(path.exists(), "the name is the service manager's");
}

#[tokio::test]
async fn what_is_no_socket_for_weir_is_said_in_one_line() {
    let house = House::empty();
    let (socket, address) = bound();
    let said = house.refused_with([("amdin", copy(&socket))]).await;
    assert!(
        said.contains("\"amdin\"") && said.contains("admin"),
        "{said}"
    );
    let twice = [("admin", copy(&socket)), ("admin", copy(&socket))];
    let said = house.refused_with(twice).await;
    assert!(said.contains("second"), "{said}");
    let connection = TcpStream::connect(address).expect("somebody listens");
    let said = house.refused_with([("registry", connection.into())]).await;
    assert!(said.contains("Accept=no"), "{said}");
    let file = std::fs::File::open("/dev/null").expect("it is there");
    let said = house.refused_with([("registry", file.into())]).await;
    assert!(said.contains("neither"), "{said}");
}
