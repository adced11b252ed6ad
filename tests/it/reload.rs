//! A changed configuration is taken up while weir serves; a wrong one is not.

use std::path::Path;

use crate::support::{House, Upstream, Weir, eventually_async};

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

async fn reloads(weir: &Weir, result: &str) -> f64 {
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
    assert_eq!(reloads(&weir, "success").await, 1.0);

    std::fs::write(&file, "no user at all\n").expect("a file can be written");
    eventually_async("the broken file is refused", || async {
        reloads(&weir, "error").await >= 1.0
    })
    .await;
    assert_eq!(ping(&weir, "ci", "new").await, 200);
    let metrics = weir.metrics().await;
    assert_eq!(
        metrics.value("weir_config_last_reload_successful", &[]),
        0.0
    );
}
