//! No secret comes out: not into logs, metrics, errors, nor `Debug` output.

use std::io;
use std::sync::{Arc, Mutex, Once};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tracing_subscriber::fmt::MakeWriter;

use super::server::{Reply, Server};
use super::world::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Captured;

    fn make_writer(&'a self) -> Captured {
        self.clone()
    }
}

/// Whether anybody wants a line is remembered for the whole process. A test that has no subscriber and
/// comes by first must not put a line to sleep for this one, so somebody always wants all of them.
fn keep_callsites_awake() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry())
            .expect("nobody else sets one in this binary");
    });
}

#[tokio::test]
async fn nothing_that_is_secret_is_printed_anywhere() {
    keep_callsites_awake();
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(captured.clone())
        .with_max_level(tracing::Level::TRACE)
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let signature = "signed-with-a-very-secret-key";
    let cdn = Server::start(|_| Reply::new(403)).await;
    let there = format!("{}/x?sig={signature}", cdn.url_as("localhost"));
    let server = Server::start(move |seen| match seen.path.as_str() {
        path if path.contains("/blobs/") => Reply::new(307).header("location", &*there),
        // Servers that quote what they got.
        path if path.contains("/manifests/echo") => {
            Reply::new(500).body(format!("what is {} to me?", seen.header("authorization")))
        }
        path if path.starts_with("/token") && path.contains("refused") => {
            Reply::new(401).body(format!(r#"{{"details":"bad password {PASSWORD}"}}"#))
        }
        _ => bearer(300)(seen),
    })
    .await;
    let mut own = registry("r.test", &[&server.url()]);
    own.credentials.push(bot());
    let (upstream, metrics) = one(own);
    let mut printed = String::new();
    let a = remote(&upstream, "r.test/a");
    printed += &format!("{:?}", a.manifest(&tag("1")).await.unwrap());
    let echoed = a.manifest(&tag("echo")).await.unwrap_err();
    printed += &format!("{echoed:?} {echoed}");
    let refused = remote(&upstream, "r.test/refused")
        .head(&tag("1"))
        .await
        .unwrap_err();
    printed += &format!("{refused:?} {refused}");
    assert!(
        refused.to_string().contains("bad password [secret]"),
        "{refused}"
    );
    let expired = a.blob_exists(&sha256(b"")).await.unwrap_err();
    printed += &format!("{expired:?} {expired} {upstream:?} {a:?}");
    printed += &scrape(&metrics);
    drop(guard);
    printed += &String::from_utf8_lossy(&captured.0.lock().unwrap());
    assert!(printed.contains("token granted") && printed.contains("credential found"));
    let encoded = BASE64_STANDARD.encode(format!("bot:{PASSWORD}"));
    for secret in [PASSWORD, TOKEN, &encoded, signature] {
        let at = printed.find(secret);
        let around = at.map(|at| &printed[at.saturating_sub(300)..at + secret.len()]);
        assert_eq!(around, None);
    }
}
