//! How long a client's right lasts: until it is withdrawn, and while nobody can be asked.

use std::time::Duration;

use crate::support::members::{ALICE, BOB, CAROL, Members, SECRET, by_basic, by_bearer, hiding};
use crate::support::{Fault, On, blob_path, manifest_path};

const MINUTE: Duration = Duration::from_secs(60);
/// After this a refusal is asked for anew.
const A_MOMENT: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_right_that_is_withdrawn_ends_when_it_is_asked_for_again() {
    for habit in [by_basic, by_bearer] {
        let house = Members::configured(habit, "[tags]\nfresh_for = \"1h\"").await;
        let client = house.client(ALICE);
        client.pull(SECRET, "1").await;
        house.withdraw(ALICE);
        house.time.pass(MINUTE - A_MOMENT).await;
        client.pull(SECRET, "1").await;
        for path in house.paths() {
            house.time.pass(A_MOMENT).await;
            client.get(&path).await.whole(403);
        }
        // Nothing of it is held for the time when the registry is away.
        house.upstream.go_away().await;
        house.time.pass(A_MOMENT).await;
        for path in house.paths() {
            let (answer, _) = house.time.pass_during(client.get(&path)).await;
            assert!(answer.status >= 400, "{path}: {}", answer.status);
        }
    }
}

#[tokio::test]
async fn a_refusal_ends_at_once_what_was_known() {
    let house = Members::with(by_basic).await;
    let client = house.client(ALICE);
    client.pull(SECRET, "1").await;
    house.withdraw(ALICE);
    // Something that is not cached has to be asked for.
    client.manifest(SECRET, "2").await.whole(403);
    house.time.pass(A_MOMENT).await;
    let layer = house.image.layers[0].digest;
    client.blob(SECRET, &layer).await.whole(403);
}

#[tokio::test]
async fn a_right_is_held_while_the_registry_is_away_and_then_no_longer() {
    let tags = "[tags]\nfresh_for = \"1s\"";
    let house = Members::configured(by_basic, tags).await;
    for path in house.paths() {
        house.client(ALICE).get(&path).await.whole(200);
    }
    house.upstream.go_away().await;
    for minutes in [5, 50] {
        house.time.pass(minutes * MINUTE).await;
        for path in house.paths() {
            let asking = house.client(ALICE);
            let (answer, _) = house.time.pass_during(asking.get(&path)).await;
            assert_eq!(
                answer.status,
                200,
                "{path} after {minutes}: {}",
                answer.text()
            );
        }
        for path in house.paths() {
            let asking = house.client(CAROL);
            let (answer, _) = house.time.pass_during(asking.get(&path)).await;
            let expected = if path.contains("blobs") { 404 } else { 502 };
            assert_eq!(answer.status, expected, "never proved: {path}");
        }
    }
    house.time.pass(6 * MINUTE).await;
    for path in house.paths() {
        let asking = house.client(ALICE);
        let (answer, _) = house.time.pass_during(asking.get(&path)).await;
        assert!(answer.status >= 400, "held too long: {path}");
    }
    let metrics = house.weir.metrics().await;
    let count = |result| metrics.value("weir_rights_total", &[("result", result)]);
    assert!(count("held") >= 4.0 && count("failed") >= 4.0);
}

#[tokio::test]
async fn trouble_at_the_registry_is_no_refusal_and_a_strange_answer_no_right() {
    for (status, held) in [(429, true), (500, true), (503, true), (418, false)] {
        let house = Members::with(by_basic).await;
        let client = house.client(ALICE);
        client.pull(SECRET, "1").await;
        house.time.pass(5 * MINUTE).await;
        house.upstream.always(On::Any, Fault::Status(status));
        let layer = house.image.layers[0].digest;
        for path in [manifest_path(SECRET, "1"), blob_path(SECRET, &layer)] {
            let (answer, _) = house.time.pass_during(client.get(&path)).await;
            assert_eq!(answer.status == 200, held, "{status} {path}");
        }
    }
}

#[tokio::test]
async fn a_404_is_no_proof_and_is_only_for_whom_it_was_said_to() {
    let house = Members::configured(hiding, "[tags]\nfresh_for = \"10s\"").await;
    house.client(ALICE).pull(SECRET, "1").await;
    house.time.pass(Duration::from_secs(20)).await;
    let referrer = house
        .upstream
        .refer(SECRET, &house.image.manifest, "application/x.signature");
    for path in house.paths() {
        let answer = house.client(BOB).get(&path).await;
        // Of what is not there nothing is known to refer to it.
        let expected = if path.contains("referrers") { 200 } else { 404 };
        answer.whole(expected);
        assert!(!answer.text().contains(&referrer.digest.to_string()));
    }
    let referrers = &house.paths()[4];
    for (name, told) in [(ALICE, true), (BOB, false)] {
        let answer = house.client(name).get(referrers).await;
        let shown = answer.text().contains(&referrer.digest.to_string());
        assert_eq!(shown, told, "{name}: {}", answer.text());
    }
    house.client(BOB).manifest(SECRET, "2").await.whole(404);
    house.upstream.push(&format!("{SECRET}:2"), &house.image);
    house.client(ALICE).manifest(SECRET, "2").await.whole(200);
    // Nor did he make weir forget the tag.
    house.upstream.go_away().await;
    house.time.pass(2 * MINUTE).await;
    let alice = house.client(ALICE);
    let (answer, _) = house.time.pass_during(alice.manifest(SECRET, "1")).await;
    answer.whole(200);
    let bob = house.client(BOB);
    let (answer, _) = house.time.pass_during(bob.manifest(SECRET, "1")).await;
    assert!(answer.status >= 400);
}

#[tokio::test]
async fn a_right_that_is_hidden_away_is_held_no_longer() {
    let house = Members::configured(hiding, "[tags]\nfresh_for = \"1h\"").await;
    let client = house.client(ALICE);
    client.pull(SECRET, "1").await;
    house.withdraw(ALICE);
    house.time.pass(2 * MINUTE).await;
    client.manifest(SECRET, "1").await.whole(404);
    house.upstream.go_away().await;
    house.time.pass(MINUTE).await;
    let layer = house.image.layers[0].digest;
    let (answer, _) = house.time.pass_during(client.blob(SECRET, &layer)).await;
    answer.whole(404);
    let (answer, _) = house.time.pass_during(client.manifest(SECRET, "1")).await;
    assert!(answer.status >= 400);
}

#[tokio::test]
async fn a_list_is_given_again_only_while_the_right_is_known() {
    let short = "[registries.\"docker.io\"]\nright_for = \"5s\"";
    let house = Members::configured(by_basic, short).await;
    let path = &house.paths()[3];
    let client = house.client(ALICE);
    for pause in [1, 6] {
        client.get(path).await.whole(200);
        house.time.pass(Duration::from_secs(pause)).await;
    }
    assert_eq!(house.upstream.count(On::Tags), 1);
    house.withdraw(ALICE);
    client.get(path).await.whole(403);
}
