//! A changed configuration is taken up while weir serves: whole, or not at all.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::child::Process;
use crate::support::upstream::Settings;
use crate::support::{
    Fault, Gate, House, On, Upstream, Weir, blob_path, eventually, eventually_async, manifest_path,
};

const OLD: &str = "the-old-password";
const NEW: &str = "the-new-password";

fn private(settings: &mut Settings) {
    settings.accounts = vec![("bot".to_owned(), OLD.to_owned())];
    settings.private = vec!["acme/secret".to_owned()];
}

/// weir with the account of the bot, whose password is in this file.
fn house_with_password(upstream: &Upstream, file: &Path) -> House {
    House::in_front_of(upstream).config(&format!(
        "[[registries.\"docker.io\".credentials]]\nusername = \"bot\"\npassword_file = {:?}",
        file.display().to_string()
    ))
}

async fn reloads(weir: &Process, result: &str) -> f64 {
    let metrics = weir.metrics().await;
    metrics.value("weir_config_reloads_total", &[("result", result)])
}

async fn knows(weir: &Process, repository: &str) -> bool {
    let answer = weir.client().get(&manifest_path(repository, "1")).await;
    answer.status == 200
}

#[tokio::test]
async fn sighup_takes_up_a_changed_configuration() {
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    let house = House::in_front_of(&upstream);
    let weir = house.spawn().await;
    assert!(!knows(&weir, "other.test/acme/app").await);
    let other = house.registry("other.test", &upstream);
    weir.rewrite_config(&other.config_text());
    weir.hang_up();
    eventually_async("the registry is known", || {
        knows(&weir, "other.test/acme/app")
    })
    .await;
    let metrics = weir.metrics().await;
    assert_eq!(
        metrics.value("weir_config_last_reload_successful", &[]),
        1.0
    );
    assert!(metrics.value("weir_config_reloads_total", &[("result", "ok")]) >= 1.0);
    assert!(metrics.value("weir_config_last_reload_success_timestamp_seconds", &[]) > 1e9);
}

#[tokio::test]
async fn a_changed_file_is_taken_up_without_being_told() {
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    let house = House::in_front_of(&upstream);
    let weir = house.spawn().await;
    let other = house.registry("other.test", &upstream);
    weir.rewrite_config(&other.config_text());
    eventually_async("the registry is known", || {
        knows(&weir, "other.test/acme/app")
    })
    .await;
}

#[tokio::test]
async fn a_bad_file_is_refused_and_the_old_one_stays() {
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    let house = House::in_front_of(&upstream);
    let weir = house.spawn().await;
    weir.rewrite_config("[server]\nlissten = \"nowhere\"\n[tags]\nfresh_for = \"soon\"\n");
    eventually_async("it is refused", async || {
        reloads(&weir, "refused").await == 1.0
    })
    .await;
    let metrics = weir.metrics().await;
    assert_eq!(
        metrics.value("weir_config_last_reload_successful", &[]),
        0.0
    );
    assert!(knows(&weir, "acme/app").await);
    let log = weir.log();
    let lines: Vec<_> = log.lines().filter(|l| l.contains("is refused")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("lissten") && lines[0].contains("fresh_for"));
    weir.rewrite_config(&house.config_text());
    eventually_async("it is well again", async || {
        let metrics = weir.metrics().await;
        metrics.value("weir_config_last_reload_successful", &[]) == 1.0
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_named_and_missing_is_taken_up_when_it_comes() {
    let upstream = Upstream::with(private).await;
    upstream.image("acme/secret:1");
    let house = House::in_front_of(&upstream);
    let weir = house.spawn().await;
    let file = house.file("password", "");
    std::fs::remove_file(&file).expect("the file is there");
    weir.rewrite_config(&house_with_password(&upstream, &file).config_text());
    eventually_async("it is refused", async || {
        reloads(&weir, "refused").await == 1.0
    })
    .await;
    house.file("password", OLD);
    eventually_async("the password is used", || knows(&weir, "acme/secret")).await;
    assert_eq!(reloads(&weir, "refused").await, 1.0);
}

#[tokio::test]
async fn keys_that_need_a_restart_are_named() {
    let upstream = Upstream::start().await;
    let house = House::in_front_of(&upstream);
    let weir = house.spawn().await;
    let other = house.config(
        "[server]\nlisten = \"127.0.0.1:1\"\nconnections_max = 7\n[cache]\nflights_max = 7",
    );
    weir.rewrite_config(&other.config_text());
    eventually("the keys are named", || {
        weir.log()
            .contains("server.listen, server.connections_max\"")
    })
    .await;
    weir.client().get("/v2/").await.whole(200);
}

#[tokio::test]
async fn limits_are_taken_up_without_a_restart() {
    let upstream = Upstream::start().await;
    let (first, second) = (
        upstream.blob("acme/app", 1000),
        upstream.blob("acme/app", 2000),
    );
    let gate = Gate::ajar(100);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let house = House::in_front_of(&upstream).config("[server]\nheader_timeout = \"1h\"");
    let weir = house.spawn().await;
    let limits = "[server]\nheader_timeout = \"100ms\"\n[cache]\nflights_max = 1";
    weir.rewrite_config(&house.config(limits).config_text());
    eventually_async("it is taken up", async || reloads(&weir, "ok").await == 1.0).await;
    // Half a request: an hour would be too long for this test.
    assert_eq!(weir.client().raw(b"GET /v2/ HTTP/1.1\r\n").await, "");
    let under_way = weir
        .client()
        .open(&blob_path("acme/app", &first.digest))
        .await;
    let refused = weir.client().blob("acme/app", &second.digest).await;
    refused.whole(503);
    assert!(refused.error_message().contains("1 transfers"));
    gate.open();
    assert_eq!(under_way.rest().await.bytes, first.bytes);
    assert!(!weir.log().contains("need a restart"));
}

#[tokio::test]
async fn a_new_password_is_used_soon_after_it_is_written() {
    let upstream = Upstream::with(private).await;
    upstream.image("acme/secret:1");
    upstream.image("acme/secret:2");
    let house = House::in_front_of(&upstream);
    let file = house.file("password", OLD);
    let weir = house_with_password(&upstream, &file).spawn().await;
    weir.client().manifest("acme/secret", "1").await.whole(200);
    upstream.set(|settings| settings.accounts[0].1 = NEW.to_owned());
    upstream.revoke_tokens();
    house.file("password", NEW);
    eventually_async("the new password is used", async || {
        weir.client().manifest("acme/secret", "2").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn the_swap_of_a_kubernetes_volume_is_a_change() {
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    let house = House::in_front_of(&upstream);
    // As kubelet lays it out: weir.toml -> ..data/weir.toml, ..data -> ..first
    let volume = house.file("anchor", "").with_file_name("volume");
    let fill = |name: &str, text: &str| {
        let directory = volume.join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join("weir.toml"), text).expect("a file");
    };
    fill("..first", &house.config_text());
    symlink("..first", volume.join("..data")).expect("a link");
    symlink("..data/weir.toml", volume.join("weir.toml")).expect("a link");
    let weir = house.spawn_from(&volume.join("weir.toml")).await;
    assert!(!knows(&weir, "other.test/acme/app").await);
    let other = house.registry("other.test", &upstream);
    fill("..second", &other.config_text());
    symlink("..second", volume.join("..data_tmp")).expect("a link");
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).expect("a swap");
    std::fs::remove_dir_all(volume.join("..first")).expect("the old one goes");
    eventually_async("the registry is known", || {
        knows(&weir, "other.test/acme/app")
    })
    .await;
}

#[tokio::test]
async fn pulls_under_way_go_on_through_reloads() {
    let upstream = Upstream::start().await;
    let blob = upstream.blob("acme/app", 3_000_000);
    let gate = Gate::ajar(1_000_000);
    upstream.fault(On::Blob, Fault::Behind(gate.clone()));
    let house = House::in_front_of(&upstream);
    let weir = house.spawn().await;
    let mut first = weir
        .client()
        .open(&blob_path("acme/app", &blob.digest))
        .await;
    first.read_exact(100_000).await;
    for fresh_for in 1..4 {
        let text = format!("[tags]\nfresh_for = \"{fresh_for}s\"");
        weir.rewrite_config(&house.clone().config(&text).config_text());
        weir.hang_up();
        eventually_async("it is taken up", async || {
            reloads(&weir, "ok").await >= f64::from(fresh_for)
        })
        .await;
    }
    let second = weir
        .client()
        .open(&blob_path("acme/app", &blob.digest))
        .await;
    gate.open();
    assert_eq!(first.rest().await.bytes, blob.bytes[100_000..]);
    assert_eq!(second.rest().await.bytes, blob.bytes);
    assert_eq!(upstream.count(On::Blob), 1, "the flight was kept");
}

fn write_users(file: &Path, users: &[(&str, &str)]) {
    let lines = users.iter().map(|(name, password)| {
        let hash = bcrypt::hash(password, 4).expect("a password can be hashed");
        format!("{name}:{hash}\n")
    });
    // Written beside it and renamed, as whoever replaces a file under use does it.
    let new = file.with_extension("new");
    std::fs::write(&new, lines.collect::<String>()).expect("a file can be written");
    std::fs::rename(&new, file).expect("a file can be renamed");
}

async fn ping(weir: &Weir, name: &str, password: &str) -> u16 {
    let pair = format!("{name}:{password}");
    let pair = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
    let client = weir
        .client()
        .with("authorization", &format!("Basic {pair}"));
    client.get("/v2/").await.status
}

async fn reloads_of(weir: &Weir, result: &str) -> f64 {
    let metrics = weir.metrics().await;
    metrics.value("weir_config_reloads_total", &[("result", result)])
}

#[tokio::test]
async fn a_changed_file_of_users_counts_at_once_and_a_broken_one_does_not() {
    let upstream = Upstream::start().await;
    let house = House::in_front_of(&upstream);
    let file = house.file("htpasswd", "");
    write_users(&file, &[("ci", "old")]);
    let access = format!("[access]\nanonymous = false\nhtpasswd = {file:?}");
    let weir = house.config(&access).start().await;
    assert_eq!(ping(&weir, "ci", "old").await, 200);

    write_users(&file, &[("ci", "new")]);
    eventually_async("the new password counts", || async {
        ping(&weir, "ci", "new").await == 200
    })
    .await;
    assert_eq!(ping(&weir, "ci", "old").await, 401);
    assert_eq!(reloads_of(&weir, "ok").await, 1.0);

    std::fs::write(&file, "no user at all\n").expect("a file can be written");
    eventually_async("the broken file is refused", || async {
        reloads_of(&weir, "refused").await >= 1.0
    })
    .await;
    assert_eq!(ping(&weir, "ci", "new").await, 200);
    let metrics = weir.metrics().await;
    assert_eq!(
        metrics.value("weir_config_last_reload_successful", &[]),
        0.0
    );
}
