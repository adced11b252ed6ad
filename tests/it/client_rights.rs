//! Registries that decide themselves: what is cached is given only to those whom they let in.

use std::time::Duration;

use crate::support::content::{Family, Index};
use crate::support::members::{
    ALICE, BOB, CAROL, Members, SECRET, basic, by_basic, by_bearer, password,
};
use crate::support::{Content, Ended, Fault, Gate, On, blob_path, eventually, manifest_path};

const MINUTE: Duration = Duration::from_secs(60);
/// After this a refusal is asked for anew.
const A_MOMENT: Duration = Duration::from_secs(4);

#[tokio::test]
async fn what_is_cached_is_given_only_to_those_whom_the_registry_lets_in() {
    for habit in [by_basic, by_bearer] {
        let house = Members::with(habit).await;
        house.client(ALICE).pull(SECRET, "1").await;
        let secret = &house.image.layers[0].bytes[..64];
        for path in house.paths() {
            for login in [BOB, "eve"] {
                house.time.pass(A_MOMENT).await;
                let client = house.client(login);
                for answer in [
                    client.get(&path).await,
                    client.get_range(&path, "bytes=0-9").await,
                ] {
                    assert_eq!(answer.status, 403, "{login} {path}: {}", answer.text());
                    assert_eq!(answer.error_code(), "DENIED");
                    assert!(!answer.bytes.windows(64).any(|bytes| bytes == secret));
                }
                house.time.pass(A_MOMENT).await;
                assert_eq!(client.head(&path).await.status, 403, "{login} {path}");
            }
            let stranger = house.weir.client().get(&path).await;
            assert_eq!(stranger.status, 401, "{path}");
            assert!(stranger.header("www-authenticate").is_some());
        }
        for path in house.paths() {
            house.time.pass(2 * MINUTE).await;
            house.client(ALICE).get(&path).await.whole(200);
        }
    }
}

#[tokio::test]
async fn nobody_without_the_right_gets_what_is_not_cached_either() {
    for habit in [by_basic, by_bearer] {
        let house = Members::with(habit).await;
        for path in house.paths() {
            house.time.pass(A_MOMENT).await;
            house.client(BOB).get(&path).await.whole(403);
        }
        assert!(house.weir.stored().is_empty());
        assert_eq!(house.upstream.bytes_sent(On::Blob), 0);
    }
}

#[tokio::test]
async fn another_login_costs_one_head_and_the_same_one_nothing() {
    for habit in [by_basic, by_bearer] {
        let house = Members::with(habit).await;
        house.client(ALICE).pull(SECRET, "1").await;
        assert_eq!(
            house.upstream.count(On::BlobHead),
            0,
            "a cold pull proves it"
        );
        assert!(house.upstream.count(On::ManifestHead) <= 1);
        house.upstream.forget();

        house.client(ALICE).pull(SECRET, "1").await;
        assert!(house.upstream.all_requests().is_empty());

        house.client(CAROL).pull(SECRET, "1").await;
        let asked = house.upstream.count(On::ManifestHead) + house.upstream.count(On::BlobHead);
        assert_eq!(asked, 1);
        for on in [On::Manifest, On::Blob, On::BlobRedirect, On::Tags] {
            assert_eq!(house.upstream.count(on), 0, "{on:?}");
        }
        house.upstream.forget();
        house.client(CAROL).pull(SECRET, "1").await;
        assert!(house.upstream.all_requests().is_empty());
        let metrics = house.weir.metrics().await;
        let count = |result| metrics.value("weir_rights_total", &[("result", result)]);
        assert_eq!(count("granted"), 1.0);
        assert!(count("known") >= 9.0);
    }
}

#[tokio::test]
async fn fifty_clients_of_one_login_ask_once() {
    let house = Members::with(by_basic).await;
    house.client(ALICE).pull(SECRET, "1").await;
    house.upstream.forget();
    let gate = Gate::shut();
    house
        .upstream
        .always(On::Any, Fault::SilentBehind(gate.clone()));
    let client = house.client(CAROL);
    let layer = &house.image.layers[0];
    let wanted = [
        (manifest_path(SECRET, "1"), &house.image.manifest.bytes),
        (blob_path(SECRET, &layer.digest), &layer.bytes),
    ];
    let asking = (0..50).map(|number| client.get(&wanted[number % 2].0));
    let opening = async {
        eventually("it is asked", || house.upstream.count(On::Any) > 0).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(asking), opening);
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.whole(200), wanted[number % 2].1);
    }
    assert_eq!(house.upstream.count(On::Any), 1);
}

#[tokio::test]
async fn what_is_gone_says_nothing_about_the_rest() {
    let house = Members::configured(by_basic, "[tags]\nfresh_for = \"1h\"").await;
    house.client(ALICE).pull(SECRET, "1").await;
    house.upstream.untag(&format!("{SECRET}:1"));
    house.upstream.forget();
    let gate = Gate::shut();
    house
        .upstream
        .fault(On::ManifestHead, Fault::SilentBehind(gate.clone()));
    let client = house.client(CAROL);
    let (tag, layer) = (manifest_path(SECRET, "1"), house.image.layers[0].digest);
    let path = blob_path(SECRET, &layer);
    let joining = async {
        eventually("it is asked", || house.upstream.count(On::Any) > 0).await;
        let blob = client.get(&path);
        let opening = async {
            tokio::task::yield_now().await;
            gate.open();
        };
        tokio::join!(blob, opening).0
    };
    let (tag, blob) = tokio::join!(client.get(&tag), joining);
    tag.whole(404);
    blob.whole(200);
}

#[tokio::test]
async fn a_flight_is_joined_only_with_a_right_of_ones_own() {
    let house = Members::with(by_basic).await;
    let blob = house.upstream.blob(SECRET, 300_000);
    house.client(ALICE).manifest(SECRET, "1").await.whole(200);
    let gate = Gate::ajar(1000);
    house.upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let path = blob_path(SECRET, &blob.digest);
    let mut alice = house.client(ALICE).open(&path).await;
    alice.read_exact(500).await;
    house.upstream.forget();

    house.client(BOB).get(&path).await.whole(403);
    house
        .client(BOB)
        .get_range(&path, "bytes=0-9")
        .await
        .whole(403);
    // He may pull from a repository of his own; the blob is not there.
    house.upstream.image("bob/own:1");
    house.client(BOB).pull("bob/own", "1").await;
    house.upstream.forget();
    let own = blob_path("bob/own", &blob.digest);
    house.client(BOB).get(&own).await.whole(404);
    let mut carol = house.client(CAROL).open(&path).await;
    assert_eq!(carol.status, 200);
    assert_eq!(&carol.read_exact(500).await[..], &blob.bytes[..500]);
    gate.open();
    for body in [alice, carol] {
        assert_eq!(body.rest().await.ended, Ended::Whole);
    }
    assert_eq!(
        house.upstream.count(On::Blob),
        0,
        "nothing is fetched twice"
    );
    assert_eq!(
        house.upstream.count(On::BlobHead),
        1 + 1,
        "of bob's own repository, and carol's"
    );
}

#[tokio::test]
async fn a_digest_opens_nothing_in_another_repository() {
    let house = Members::with(by_basic).await;
    house.client(ALICE).pull(SECRET, "1").await;
    // Bob may push what he likes to his own repository: also an index that names the secret.
    let stolen = Index::of(Family::Oci, vec![("amd64", house.image.clone())]);
    house.upstream.push_manifest("bob/own:1", &stolen.manifest);
    house
        .upstream
        .push_manifest("bob/own:2", &house.image.manifest);
    let bob = house.client(BOB);
    bob.manifest("bob/own", "1").await.whole(200);
    bob.manifest("bob/own", "2").await.whole(200);
    house.upstream.untag("bob/own:2");
    let layer = house.image.layers[0].digest;
    bob.blob("bob/own", &layer).await.whole(404);
    bob.get_range(&blob_path("bob/own", &layer), "bytes=0-9")
        .await
        .whole(404);
    let config = house.image.config.digest;
    bob.blob("bob/own", &config).await.whole(404);
}

#[tokio::test]
async fn what_others_have_pulled_is_not_told() {
    let house = Members::with(by_basic).await;
    house.client(ALICE).pull(SECRET, "1").await;
    house.upstream.image("bob/own:1");
    let bob = house.client(BOB);
    bob.pull("bob/own", "1").await;
    let nowhere = Content::noise(4711, 100).digest;
    for (kind, cached) in [
        ("blobs", house.image.layers[0].digest),
        ("manifests", house.image.manifest.digest),
    ] {
        let answers = [cached, nowhere].map(|digest| {
            let (bob, path) = (bob.clone(), format!("/v2/bob/own/{kind}/{digest}"));
            async move {
                let answer = bob.get(&path).await;
                answer.whole(404);
                answer.text().replace(&digest.to_string(), "it")
            }
        });
        let [cached, nowhere] = answers;
        assert_eq!(cached.await, nowhere.await);
    }
}

#[tokio::test]
async fn an_index_that_names_a_secret_manifest_does_not_give_it_out() {
    let house = Members::with(by_basic).await;
    house.client(ALICE).pull(SECRET, "1").await;
    let stolen = Index::of(Family::Oci, vec![("amd64", house.image.clone())]);
    house.upstream.push_manifest("bob/own:1", &stolen.manifest);
    let bob = house.client(BOB);
    bob.manifest("bob/own", "1").await.whole(200);
    let secret = house.image.manifest.digest;
    bob.manifest("bob/own", secret).await.whole(404);
    bob.manifest_head("bob/own", secret).await.whole(404);
}

#[tokio::test]
async fn a_tag_that_one_client_had_looked_up_moves_for_all_who_may_see_it() {
    let house = Members::configured(by_basic, "[tags]\nfresh_for = \"10s\"").await;
    house.client(ALICE).pull(SECRET, "1").await;
    house.client(CAROL).manifest(SECRET, "1").await.whole(200);
    let newer = house.upstream.image(&format!("{SECRET}:1"));
    house.time.pass(Duration::from_secs(11)).await;
    let answer = house.client(ALICE).manifest(SECRET, "1").await;
    assert_eq!(answer.whole(200), &newer.manifest.bytes);
    house.upstream.forget();
    let answer = house.client(CAROL).manifest(SECRET, "1").await;
    assert_eq!(answer.whole(200), &newer.manifest.bytes);
    assert!(house.upstream.all_requests().is_empty());
    house.client(BOB).manifest(SECRET, "1").await.whole(403);
}

#[tokio::test]
async fn what_is_looked_up_beside_an_answer_goes_by_the_login_that_caused_it() {
    let tags = "[tags]\nfresh_for = \"10s\"\nrevalidate_for = \"10m\"";
    let house = Members::configured(by_basic, tags).await;
    house.client(ALICE).pull(SECRET, "1").await;
    house.time.pass(Duration::from_secs(20)).await;
    house.upstream.forget();
    // Not known: it is waited for, and the answer is the registry's.
    house.client(BOB).manifest(SECRET, "1").await.whole(403);
    let seen = house.upstream.requests(On::ManifestHead);
    let login = basic(BOB, &password(BOB));
    assert!(
        seen.iter()
            .all(|seen| seen.header("authorization") == Some(&login))
    );
    house.upstream.forget();
    house.client(ALICE).manifest(SECRET, "1").await.whole(200);
    eventually("it is looked up", || {
        house.upstream.count(On::ManifestHead) == 1
    })
    .await;
    let seen = house.upstream.requests(On::ManifestHead);
    let login = basic(ALICE, &password(ALICE));
    assert_eq!(seen[0].header("authorization"), Some(&*login));
}

#[tokio::test]
async fn the_catalog_and_lists_are_for_those_who_may_see_them() {
    let house = Members::with(by_basic).await;
    house.upstream.image("open/app:1");
    house.client(ALICE).pull(SECRET, "1").await;
    house.client(ALICE).get(&house.paths()[3]).await.whole(200);
    house.client(BOB).pull("open/app", "1").await;
    for (name, sees, does_not) in [(ALICE, SECRET, "open/app"), (BOB, "open/app", SECRET)] {
        let catalog = house.client(name).get("/v2/_catalog").await;
        catalog.whole(200);
        assert!(catalog.text().contains(sees), "{name}: {}", catalog.text());
        // Nobody is asked for the sake of a list.
        assert!(
            !catalog.text().contains(does_not),
            "{name}: {}",
            catalog.text()
        );
    }
    assert!(
        !house
            .weir
            .client()
            .get("/v2/_catalog")
            .await
            .text()
            .contains("acme")
    );
    house.upstream.forget();
    for name in [ALICE, CAROL] {
        house.client(name).get(&house.paths()[3]).await.whole(200);
        house.client(name).get(&house.paths()[3]).await.whole(200);
    }
    assert_eq!(house.upstream.count(On::Tags), 1, "carol's own");
}

#[tokio::test]
async fn a_registry_that_serves_no_head_is_asked_by_get() {
    let house = Members::with(by_basic).await;
    for on in [On::ManifestHead, On::BlobHead] {
        house.upstream.always(on, Fault::Status(405));
    }
    house.client(ALICE).pull(SECRET, "1").await;
    house.client(CAROL).pull(SECRET, "1").await;
    house.client(BOB).manifest(SECRET, "1").await.whole(403);
    assert_eq!(
        house.upstream.count(On::BlobRedirect),
        3,
        "config and two layers"
    );
}
