//! How long a client waits for what is not to be had: 5 s in all for a manifest, 15 s for a blob,
//! whichever of the hosts that take part is silent, and at which step.

use std::time::Duration;

use crate::support::client::Answer;
use crate::support::upstream::Settings;
use crate::support::{Fault, Gate, HeldTime, House, On, Upstream, blob_path, manifest_path};

const MANIFEST_WITHIN: Duration = Duration::from_secs(5);
const BLOB_WITHIN: Duration = Duration::from_secs(15);

/// An upstream with the image `acme/app:1`.
async fn upstream(change: impl FnOnce(&mut Settings)) -> Upstream {
    let upstream = Upstream::with(change).await;
    upstream.image("acme/app:1");
    upstream
}

fn silence() -> Fault {
    Fault::SilentBehind(Gate::shut())
}

/// weir in front of these, in their order, as endpoints of one registry.
fn house(upstreams: &[&Upstream], time: &HeldTime) -> House {
    let endpoints: Vec<_> = upstreams
        .iter()
        .map(|upstream| upstream.endpoint())
        .collect();
    House::in_front_of(upstreams[0])
        .config(&format!(
            "[registries.\"docker.io\"]\nendpoints = {endpoints:?}"
        ))
        .clock(time.clock())
}

/// What a client is told about a manifest that nothing is cached of, and when.
async fn cold_manifest(upstreams: &[&Upstream], time: &HeldTime) -> (Answer, Duration) {
    let weir = house(upstreams, time).start().await;
    let path = manifest_path("acme/app", "1");
    time.pass_during(weir.client().get(&path)).await
}

#[track_caller]
fn assert_silence_is_told(what: &str, upstream: &Upstream, (answer, passed): (Answer, Duration)) {
    assert_eq!(answer.status, 504, "{what}: {}", answer.text());
    assert!(passed <= MANIFEST_WITHIN, "{what}: {passed:?}");
    let message = answer.error_message();
    let registry = message.contains("docker.io at http://127.0.0.1:");
    assert!(
        registry && message.contains("too long"),
        "{what}: {message}"
    );
    assert!(message.contains("(request "), "{what}: {message}");
    let asked = upstream.all_requests().len();
    assert!(asked > 0, "{what}");
}

#[tokio::test]
async fn a_silent_registry_is_given_up_whatever_it_is_silent_at() {
    let steps: [(&str, On); 4] = [
        ("everything", On::Any),
        ("the challenge", On::Challenge),
        ("its token service", On::Token),
        ("the manifest", On::Manifest),
    ];
    for (what, on) in steps {
        let time = HeldTime::hold();
        let upstream = upstream(|_| {}).await;
        upstream.always(on, silence());
        let told = cold_manifest(&[&upstream], &time).await;
        assert_silence_is_told(what, &upstream, told);
    }
}

#[tokio::test]
async fn a_manifest_that_stops_in_the_middle_is_given_up() {
    let time = HeldTime::hold();
    let upstream = upstream(|_| {}).await;
    upstream.always(On::Manifest, Fault::Behind(Gate::ajar(10)));
    let told = cold_manifest(&[&upstream], &time).await;
    assert_silence_is_told("in the middle", &upstream, told);
}

#[tokio::test]
async fn a_silent_host_behind_a_redirect_is_given_up() {
    let time = HeldTime::hold();
    let upstream = upstream(|settings| settings.redirect_manifests = true).await;
    upstream.always(On::Manifest, silence());
    let (answer, passed) = cold_manifest(&[&upstream], &time).await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(passed <= MANIFEST_WITHIN, "{passed:?}");
    let message = answer.error_message();
    assert!(message.contains(upstream.cdn_address()), "{message}");
    assert!(!message.contains("X-Signature"), "{message}");
}

#[tokio::test]
async fn what_was_slow_before_leaves_less_time_for_what_is_silent() {
    let time = HeldTime::hold();
    let upstream = upstream(|_| {}).await;
    upstream.always(On::Challenge, Fault::Delay(Duration::from_secs(4)));
    upstream.always(On::Token, silence());
    let told = cold_manifest(&[&upstream], &time).await;
    assert_silence_is_told("a slow challenge", &upstream, told);
}

#[tokio::test]
async fn several_endpoints_share_the_time() {
    for on in [On::Any, On::Token, On::Manifest] {
        let time = HeldTime::hold();
        let one = upstream(|_| {}).await;
        let two = upstream(|_| {}).await;
        let three = upstream(|_| {}).await;
        for upstream in [&one, &two, &three] {
            upstream.always(on, silence());
        }
        let told = cold_manifest(&[&one, &two, &three], &time).await;
        assert_silence_is_told("three endpoints", &one, told);
        assert!(!two.all_requests().is_empty(), "the second was asked too");
    }
}

#[tokio::test]
async fn a_silent_endpoint_leaves_time_for_the_next() {
    let time = HeldTime::hold();
    let one = upstream(|_| {}).await;
    let two = upstream(|_| {}).await;
    one.always(On::Any, silence());
    let (answer, passed) = cold_manifest(&[&one, &two], &time).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(passed <= MANIFEST_WITHIN, "{passed:?}");
}

#[tokio::test]
async fn a_head_and_the_get_behind_it_are_one_question() {
    let time = HeldTime::hold();
    let upstream = upstream(|settings| settings.digest_on_head = false).await;
    upstream.always(On::ManifestHead, Fault::Delay(Duration::from_secs(3)));
    upstream.always(On::Manifest, silence());
    let weir = house(&[&upstream], &time).start().await;
    let path = manifest_path("acme/app", "1");
    let (answer, passed) = time.pass_during(weir.client().head(&path)).await;
    assert_eq!(answer.status, 504);
    assert!(passed <= MANIFEST_WITHIN, "{passed:?}");
}

#[tokio::test]
async fn a_registry_that_is_slow_at_every_step_is_waited_for() {
    let time = HeldTime::hold();
    let upstream = upstream(|_| {}).await;
    for on in [On::Challenge, On::Token, On::Manifest] {
        upstream.always(on, Fault::Delay(Duration::from_secs(1)));
    }
    let (answer, _) = cold_manifest(&[&upstream], &time).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_blob_is_given_up_in_time_whatever_is_silent() {
    for on in [On::Any, On::Token, On::BlobRedirect, On::Blob] {
        let time = HeldTime::hold();
        let one = upstream(|_| {}).await;
        let two = upstream(|_| {}).await;
        let layer = one.blob("acme/app", 20_000);
        two.put_blob("acme/app", &layer);
        for upstream in [&one, &two] {
            upstream.always(on, silence());
        }
        let weir = house(&[&one, &two], &time).start().await;
        let path = blob_path("acme/app", &layer.digest);
        let (answer, passed) = time.pass_during(weir.client().get(&path)).await;
        assert_eq!(answer.status, 404, "{on:?}: {}", answer.text());
        assert_eq!(answer.error_code(), "BLOB_UNKNOWN", "{on:?}");
        assert!(passed <= BLOB_WITHIN, "{on:?}: {passed:?}");
        let message = answer.error_message();
        let told = message.contains("docker.io at http://127.0.0.") && message.contains("too long");
        assert!(told, "{on:?}: {message}");
        assert!(!two.all_requests().is_empty(), "{on:?}");
    }
}

#[tokio::test]
async fn who_joins_a_flight_that_fails_waits_no_longer_than_its_own_time() {
    let time = HeldTime::hold();
    let upstream = upstream(|_| {}).await;
    let layer = upstream.blob("acme/app", 20_000);
    upstream.put_blob("acme/other", &layer);
    upstream.always(On::BlobRedirect, Fault::abuse());
    let weir = house(&[&upstream], &time).start().await;
    let client = weir.client();
    let paths = ["acme/app", "acme/other"].map(|name| blob_path(name, &layer.digest));
    let both = async { tokio::join!(client.get(&paths[0]), client.get(&paths[1])) };
    let ((one, other), passed) = time.pass_during(both).await;
    assert_eq!((one.status, other.status), (404, 404));
    assert!(passed <= BLOB_WITHIN, "{passed:?}");
    for answer in [one, other] {
        let message = answer.error_message();
        assert!(message.contains("docker.io"), "{message}");
    }
}
