//! How weir is, in one answer; and the order to read its configuration again.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::answer::Answer;
use super::{Admin, Desk, cache};

pub(super) async fn status(State(admin): State<Admin>) -> Json<Value> {
    Json(status_of(&admin.0))
}

fn status_of(desk: &Desk) -> Value {
    let config = desk.config.load();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": desk.health.is_ready(),
        "started_at": desk.started_at.0 / 1000,
        "uptime_seconds": desk.clock.now().since(desk.started_at).as_secs(),
        "config_file": config.file,
        "registries": config.registries.len(),
        "warnings": config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "cache": cache::stats_of(desk),
    })
}

pub(super) async fn reload(State(admin): State<Admin>) -> Answer {
    let needs_restart = (admin.0.reload)().await?;
    Ok(Json(
        json!({ "reloaded": true, "needs_restart": needs_restart }),
    ))
}
