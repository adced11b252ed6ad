//! Manifests go out byte for byte, by tag and by digest, and cost the upstream no more than needed.

use crate::support::client::Answer;
use crate::support::upstream::Habit;
use crate::support::{Auth, Ended, Fault, Gate, House, On, Upstream, Weir, eventually};

#[track_caller]
fn assert_headers(answer: &Answer, manifest: &crate::support::Manifest) {
    let digest = manifest.digest.to_string();
    assert_eq!(answer.header("docker-content-digest"), Some(&*digest));
    assert_eq!(answer.header("content-type"), Some(&*manifest.media_type));
    assert_eq!(answer.length_header(), Some(manifest.bytes.len()));
    assert_eq!(answer.header("etag"), Some(&*format!("\"{digest}\"")));
}

#[tokio::test]
async fn a_manifest_is_the_same_by_tag_and_by_digest_and_to_head() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/alpine:3.20");
    let weir = Weir::in_front_of(&upstream).await;
    let client = weir.client();
    let by_tag = client.manifest("library/alpine", "3.20").await;
    let by_digest = client
        .manifest("library/alpine", image.manifest.digest)
        .await;
    for answer in [by_tag, by_digest] {
        assert_eq!(answer.whole(200), &image.manifest.bytes);
        assert_headers(&answer, &image.manifest);
    }
    for reference in ["3.20".to_owned(), image.manifest.digest.to_string()] {
        let head = client.manifest_head("library/alpine", reference).await;
        assert!(head.whole(200).is_empty());
        assert_headers(&head, &image.manifest);
    }
}

#[tokio::test]
async fn every_kind_of_image_comes_through_cold_and_warm() {
    let upstream = Upstream::start().await;
    upstream.image("acme/oci:1");
    upstream.docker_image("acme/docker:1");
    upstream.index("acme/index:1");
    upstream.docker_list("acme/list:1");
    let weir = Weir::in_front_of(&upstream).await;
    let client = weir.client();
    let images = [("oci", 4), ("docker", 3), ("index", 7), ("list", 7)];
    for (name, parts) in images {
        let cold = client.pull(&format!("acme/{name}"), "1").await;
        assert_eq!(cold.len(), parts);
    }
    upstream.forget();
    for (name, parts) in images {
        let warm = client.pull(&format!("acme/{name}"), "1").await;
        assert_eq!(warm.len(), parts);
    }
    assert!(
        upstream.all_requests().is_empty(),
        "the second pull is free"
    );
}

#[tokio::test]
async fn head_and_then_get_cost_one_get() {
    let upstream = Upstream::start().await;
    upstream.image("library/alpine:3.20");
    let weir = Weir::in_front_of(&upstream).await;
    let client = weir.client();
    client
        .manifest_head("library/alpine", "3.20")
        .await
        .whole(200);
    client.manifest("library/alpine", "3.20").await.whole(200);
    assert_eq!(upstream.count(On::Manifest), 1);
}

#[tokio::test]
async fn many_clients_of_a_cold_tag_cost_one_get() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/alpine:3.20");
    let gate = Gate::shut();
    upstream.fault(On::Manifest, Fault::SilentBehind(gate.clone()));
    let weir = Weir::in_front_of(&upstream).await;
    let pulls: Vec<_> = (0..20)
        .map(|_| {
            let client = weir.client();
            tokio::spawn(async move { client.manifest("library/alpine", "3.20").await })
        })
        .collect();
    eventually("the upstream is asked", || {
        upstream.count(On::Manifest) == 1
    })
    .await;
    gate.open();
    for pull in pulls {
        let answer = pull.await.expect("an answer");
        assert_eq!(answer.whole(200), &image.manifest.bytes);
    }
    assert_eq!(upstream.count(On::Manifest), 1);
}

#[tokio::test]
async fn the_media_type_outlives_a_restart() {
    let upstream = Upstream::start().await;
    let list = upstream.docker_list("acme/list:1");
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().manifest("acme/list", "1").await.whole(200);
    let weir = weir.restart().await;
    upstream.go_away().await;
    let digest = list.manifest.digest;
    let answer = weir.client().manifest("acme/list", digest).await;
    answer.whole(200);
    assert_headers(&answer, &list.manifest);
}

#[tokio::test]
async fn a_manifest_by_an_unknown_digest_is_unknown() {
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    let weir = Weir::in_front_of(&upstream).await;
    // A config's digest is what people mistake for the manifest's.
    let answer = weir
        .client()
        .manifest("acme/app", image.config.digest)
        .await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.error_code(), "MANIFEST_UNKNOWN");
    let missing = weir.client().manifest_head("acme/app", "2").await;
    assert_eq!((missing.status, missing.ended), (404, Ended::Whole));
}

#[tokio::test]
async fn a_manifest_is_given_only_in_a_repository_that_has_it() {
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    upstream.image("acme/other:1");
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().manifest("acme/app", "1").await.whole(200);
    let elsewhere = weir
        .client()
        .manifest("acme/other", image.manifest.digest)
        .await;
    assert_eq!(elsewhere.status, 404);
}

#[tokio::test]
async fn registries_of_other_habits_are_understood() {
    let habits: [(&str, Habit); 5] = [
        ("redirected manifests", |s| s.redirect_manifests = true),
        ("headers of 60 KiB", |s| s.fat_headers = true),
        ("a prefix", |s| s.prefix = "/mirror/hub".to_owned()),
        ("relative Location", |s| s.relative_location = true),
        ("no tokens, no redirects", |s| {
            s.auth = Auth::Open;
            s.redirect = false;
            s.blob_head_is_404 = true;
        }),
    ];
    for (what, habit) in habits {
        let upstream = Upstream::with(habit).await;
        upstream.index("library/alpine:3.20");
        let house = House::in_front_of(&upstream).config("[tags]\nfresh_for = \"0s\"");
        let weir = house.start().await;
        for _ in 0..2 {
            let pulled = weir.client().pull("library/alpine", "3.20").await;
            assert_eq!(pulled.len(), 7, "{what}");
        }
        assert_eq!(upstream.count(On::Manifest), 3, "{what}");
        assert_eq!(upstream.count(On::Blob), 4, "{what}");
    }
}

#[tokio::test]
async fn a_registry_that_tells_no_digest_is_asked_by_get() {
    let upstream = Upstream::with(|settings| settings.digest_on_head = false).await;
    let image = upstream.image("acme/app:1");
    let house = House::in_front_of(&upstream).config("[tags]\nfresh_for = \"0s\"");
    let weir = house.start().await;
    for pulls in 1..=2 {
        let head = weir.client().manifest_head("acme/app", "1").await;
        head.whole(200);
        assert_headers(&head, &image.manifest);
        assert_eq!(upstream.count(On::Manifest), pulls, "there is no other way");
    }
    let newer = upstream.image("acme/app:1");
    let answer = weir.client().manifest("acme/app", "1").await;
    assert_eq!(answer.whole(200), &newer.manifest.bytes);
}
