//! What a client is told when it cannot have what it wants, and how soon.

use std::time::Duration;

use crate::support::client::Answer;
use crate::support::{
    Auth, Fault, HeldTime, House, Logs, On, Upstream, Weir, blob_path, manifest_path,
};

const DOCKER: &str = "docker/26.1.5 go/go1.22 git-commit/411e817 kernel/6.18 os/linux arch/amd64";
const CONTAINERD: &str = "containerd/v1.7.24";
const PODMAN: &str = "containers/5.32.0 (github.com/containers/image)";
const CRI_O: &str = "cri-o/1.30.0 go/go1.22 os/linux arch/amd64";

/// An answer that may need time which the test has to let pass.
async fn answer_in_held_time(weir: &Weir, time: &HeldTime, path: &str) -> (Answer, Duration) {
    time.pass_during(weir.client().get(path)).await
}

#[tokio::test]
async fn a_cold_manifest_fails_soon_when_the_upstream_is_away() {
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    let house = House::in_front_of(&upstream).clock(time.clock());
    let weir = house.start().await;
    upstream.go_away().await;
    for _ in 0..5 {
        let path = manifest_path("acme/app", "1");
        let (answer, passed) = answer_in_held_time(&weir, &time, &path).await;
        assert!(matches!(answer.status, 502 | 504), "{}", answer.status);
        assert!(passed <= Duration::from_secs(5), "{passed:?}");
        let message = answer.error_message();
        assert!(message.contains("docker.io"), "{message}");
        let says_why = message.contains("refused") || message.contains("failed repeatedly");
        assert!(says_why, "{message}");
        assert!(message.contains(&upstream.endpoint()), "{message}");
    }
}

#[tokio::test]
async fn a_used_up_quota_is_told_in_the_way_each_client_understands() {
    let time = HeldTime::hold();
    for (agent, status) in [
        (DOCKER, 429),
        (CONTAINERD, 429),
        (PODMAN, 503),
        (CRI_O, 503),
    ] {
        let upstream = Upstream::start().await;
        upstream.image("acme/app:1");
        upstream.always(On::Manifest, Fault::quota_used_up());
        let house = House::in_front_of(&upstream).clock(time.clock());
        let weir = house.start().await;
        let client = weir.client().user_agent(agent);
        let (answer, _) = time.pass_during(client.manifest("acme/app", "1")).await;
        assert_eq!(answer.status, status, "{agent}");
        assert_eq!(answer.error_code(), "TOOMANYREQUESTS", "{agent}");
        if status == 429 {
            assert!(answer.header("retry-after").is_some(), "{agent}");
        }
        let message = answer.error_message();
        assert!(message.contains("docker.io"), "{message}");
    }
}

#[tokio::test]
async fn a_blob_that_is_not_to_be_had_is_tried_for_a_while_and_then_unknown() {
    let logs = Logs::capture();
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    let house = House::in_front_of(&upstream).clock(time.clock());
    let weir = house.start().await;
    weir.client().manifest("acme/app", "1").await.whole(200);
    upstream.always(On::Blob, Fault::Status(503));
    let path = blob_path("acme/app", &image.layers[0].digest);
    let (answer, passed) = answer_in_held_time(&weir, &time, &path).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.error_code(), "BLOB_UNKNOWN");
    let message = answer.error_message();
    assert!(message.contains("docker.io"), "{message}");
    assert!(
        message.contains("status 503") && message.contains(upstream.cdn_address()),
        "not only that it took long: {message}"
    );
    assert!(logs.contain("503"), "{}", logs.text());
    assert!(passed <= Duration::from_secs(15), "{passed:?}");
    assert!(upstream.count(On::Blob) >= 2, "it was tried again");
}

#[tokio::test]
async fn a_blob_that_comes_late_comes() {
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    let house = House::in_front_of(&upstream).clock(time.clock());
    let weir = house.start().await;
    weir.client().manifest("acme/app", "1").await.whole(200);
    upstream.fault(On::Blob, Fault::Status(503));
    upstream.fault(On::BlobRedirect, Fault::Status(500));
    upstream.fault(On::Blob, Fault::ResetAfter(0));
    let layer = &image.layers[0];
    let path = blob_path("acme/app", &layer.digest);
    let (answer, _) = answer_in_held_time(&weir, &time, &path).await;
    assert_eq!(answer.whole(200), &layer.bytes);
}

#[tokio::test]
async fn upstream_errors_are_told_apart() {
    for (status, answered, code) in [
        (404, 404, "MANIFEST_UNKNOWN"),
        (403, 502, "UNAUTHORIZED"),
        (500, 502, "UNAVAILABLE"),
        (503, 502, "UNAVAILABLE"),
    ] {
        let logs = Logs::capture();
        let time = HeldTime::hold();
        let upstream = Upstream::start().await;
        upstream.image("acme/app:1");
        upstream.always(On::ManifestHead, Fault::Status(status));
        upstream.always(On::Manifest, Fault::Status(status));
        let house = House::in_front_of(&upstream).clock(time.clock());
        let weir = house.start().await;
        let path = manifest_path("acme/app", "1");
        let (answer, _) = answer_in_held_time(&weir, &time, &path).await;
        assert_eq!(answer.status, answered, "{status}: {}", answer.text());
        assert_eq!(answer.error_code(), code, "{status}");
        let message = answer.error_message();
        let place = format!("docker.io at {}", upstream.endpoint());
        assert!(message.contains(&place), "{message}");
        if status != 404 {
            assert!(logs.contain(&status.to_string()), "{}", logs.text());
            assert!(message.contains(&format!("status {status}")), "{message}");
            assert!(message.contains("(request "), "{message}");
        }
    }
}

#[tokio::test]
async fn nothing_secret_of_what_an_upstream_quotes_reaches_a_client() {
    let secrets = [
        "X-Signature=5ecret",
        "bot-p4ssword",
        "Ym90OmJvdC1wNHNzd29yZA==",
    ];
    let quoting = format!(
        r#"{{"errors":[{{"code":"DENIED","message":"https://cdn.test/a?{} for bot {} {}"}}]}}"#,
        secrets[0], secrets[1], secrets[2]
    );
    for status in [401, 403, 429, 500] {
        let logs = Logs::capture();
        let time = HeldTime::hold();
        let upstream = Upstream::with(|settings| {
            settings.auth = Auth::Basic;
            settings.accounts = vec![("bot".to_owned(), "bot-p4ssword".to_owned())];
        })
        .await;
        let image = upstream.image("acme/app:1");
        for on in [On::Manifest, On::ManifestHead, On::BlobRedirect] {
            let (headers, body) = (Vec::new(), quoting.clone());
            let fault = Fault::Answer {
                status,
                headers,
                body,
            };
            upstream.always(on, fault);
        }
        let house = House::in_front_of(&upstream).clock(time.clock()).config(
            "[[registries.\"docker.io\".credentials]]\nusername = \"bot\"\npassword = \"bot-p4ssword\"",
        );
        let weir = house.start().await;
        let paths = [
            manifest_path("acme/app", "1"),
            blob_path("acme/app", &image.layers[0].digest),
        ];
        for path in paths {
            let (answer, _) = answer_in_held_time(&weir, &time, &path).await;
            let shown = format!("{:?} {}", answer.headers, answer.error_message());
            assert!(shown.contains("docker.io"), "{shown}");
            for secret in secrets {
                assert!(!shown.contains(secret), "{status} {shown}");
                assert!(!logs.contain(secret), "{status} {}", logs.text());
            }
        }
    }
}

#[tokio::test]
async fn a_warning_says_why_the_answer_is_stale_and_no_inner_detail() {
    let time = HeldTime::hold();
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    let house = House::in_front_of(&upstream).clock(time.clock());
    let weir = house.start().await;
    weir.client().manifest("acme/app", "1").await.whole(200);
    time.pass(Duration::from_secs(3600)).await;
    upstream.always(On::ManifestHead, Fault::Status(503));
    let path = manifest_path("acme/app", "1");
    let (answer, _) = answer_in_held_time(&weir, &time, &path).await;
    answer.whole(200);
    let warning = answer.header("warning").expect("a warning");
    let place = format!("docker.io at {}", upstream.endpoint());
    assert!(warning.starts_with("299 - \"stale"), "{warning}");
    assert!(
        warning.contains(&place) && warning.contains("status 503"),
        "{warning}"
    );
    assert!(!warning.contains("a fault of the test"), "{warning}");
}

#[tokio::test]
async fn a_request_id_is_taken_up_or_given() {
    let upstream = Upstream::start().await;
    let weir = Weir::in_front_of(&upstream).await;
    let given = weir.client().get("/v2/").await;
    assert!(
        given
            .header("x-request-id")
            .is_some_and(|id| !id.is_empty())
    );
    let client = weir.client().with("x-request-id", "abc-123");
    let taken = client.get("/v2/").await;
    assert_eq!(taken.header("x-request-id"), Some("abc-123"));
}
