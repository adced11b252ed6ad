//! The cache on the desk: how full it is, what is in it, and what shall go, stay or be checked.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::answer::{Answer, Trouble};
use super::images::{Image, Parts};
use super::{Admin, Desk};
use crate::oci::{Digest, Reference};
use crate::store::{Chore, Removed};

/// Tags that one answer lists.
const IMAGES_MAX: usize = 10_000;

/// What a call is about.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct What {
    images: Vec<String>,
    digests: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Start {
    #[serde(default)]
    from: u32,
}

pub(super) async fn stats(State(admin): State<Admin>) -> Json<Value> {
    Json(stats_of(&admin.0))
}

pub(super) fn stats_of(desk: &Desk) -> Value {
    let stats = desk.store.stats();
    json!({
        "directory": desk.config.load().cache.directory,
        "complete": stats.complete,
        "bytes": stats.bytes,
        "objects": stats.objects,
        "pinned_bytes": stats.pinned_bytes,
        "claimed_bytes": stats.claimed_bytes,
        "max_size": stats.max_size,
        "min_free": stats.min_free,
        "free": stats.free,
    })
}

pub(super) async fn blobs(
    State(admin): State<Admin>,
    start: Result<Query<Start>, QueryRejection>,
) -> Answer {
    let Query(start) = start?;
    let page = admin.0.store.list(start.from);
    let blobs: Vec<_> = page
        .entries
        .iter()
        .map(|entry| {
            json!({
                "digest": entry.digest.to_string(),
                "bytes": entry.size,
                "last_use": entry.last_use.0 / 1000,
                "pinned": entry.pinned,
            })
        })
        .collect();
    Ok(Json(json!({ "blobs": blobs, "next": page.next })))
}

pub(super) async fn images(State(admin): State<Admin>) -> Answer {
    let listed = spawn_blocking(move || list_images(&admin.0)).await?;
    Ok(Json(listed))
}

fn list_images(desk: &Desk) -> Value {
    let index = desk.store.index();
    let all = index.targets().into_iter().flat_map(|target| {
        let tags = index.tags_of(&target).into_iter();
        tags.filter_map(move |tag| {
            let record = index.tag(&target, &tag)?;
            Some(json!({
                "image": format!("{target}:{tag}"),
                "registry": target.registry.as_str(),
                "repository": target.repository.as_str(),
                "tag": tag.to_string(),
                "digest": record.digest.to_string(),
                "media_type": record.media_type.as_str(),
                "checked_at": record.checked_at.0 / 1000,
                "stored": desk.store.contains(&record.digest),
            }))
        })
    });
    let mut images: Vec<_> = all.take(IMAGES_MAX + 1).collect();
    let truncated = images.len() > IMAGES_MAX;
    images.truncate(IMAGES_MAX);
    json!({ "images": images, "truncated": truncated })
}

/// The digests that a call is about, and the images among them.
struct Meant {
    images: Vec<(Image, Parts)>,
    digests: Vec<Digest>,
}

impl Meant {
    async fn by(desk: &Desk, what: Result<Json<What>, JsonRejection>) -> Result<Meant, Trouble> {
        let Json(what) = what?;
        if what.images.is_empty() && what.digests.is_empty() {
            return Err(Trouble::Nothing);
        }
        let digest = |text: &String| {
            let parsed = text.parse();
            parsed.map_err(|wrong| Trouble::Digest(text.clone(), wrong))
        };
        let digests = what.digests.iter().map(digest).collect::<Result<_, _>>()?;
        let mut images = Vec::new();
        for text in &what.images {
            let image = Image::of(desk, text)?;
            if image.digest.is_none() {
                return Err(Trouble::NotCached(text.clone()));
            }
            let parts = image.parts(desk).await?;
            images.push((image, parts));
        }
        Ok(Meant { images, digests })
    }

    /// Everything that is stored of it.
    fn all(&self) -> Vec<Digest> {
        let parts = self.images.iter().map(|(_, parts)| parts);
        let of_images = parts.flat_map(|parts| parts.manifests.iter().chain(&parts.blobs));
        of_images.chain(&self.digests).copied().collect()
    }
}

pub(super) async fn remove(
    State(admin): State<Admin>,
    what: Result<Json<What>, JsonRejection>,
) -> Answer {
    let desk = Arc::clone(&admin.0);
    let meant = Meant::by(&desk, what).await?;
    let removed = spawn_blocking(move || remove_all(&desk, &meant)).await??;
    Ok(Json(removed))
}

fn remove_all(desk: &Desk, meant: &Meant) -> Result<Value, Trouble> {
    let (mut bytes, mut objects, mut pinned, mut absent) = (0, 0, Vec::new(), Vec::new());
    for (image, _) in &meant.images {
        if let Reference::Tag(tag) = &image.reference {
            desk.store.index().remove_tag(&image.target, tag);
        }
    }
    for digest in meant.all() {
        match desk.store.remove(&digest)? {
            Removed::Gone(length) => {
                bytes += length;
                objects += 1;
            }
            Removed::Pinned => pinned.push(digest.to_string()),
            Removed::Absent => absent.push(digest.to_string()),
        }
        desk.pull.forget(&digest);
    }
    tracing::info!(objects, bytes, "content was removed by the admin API");
    Ok(json!({ "objects": objects, "bytes": bytes, "pinned": pinned, "absent": absent }))
}

pub(super) async fn pin(
    State(admin): State<Admin>,
    what: Result<Json<What>, JsonRejection>,
) -> Answer {
    let desk = Arc::clone(&admin.0);
    let meant = Meant::by(&desk, what).await?;
    let mut all = meant.all();
    // What an image lacks is pinned too: it comes with the next pull.
    let missing = meant.images.iter().flat_map(|(_, parts)| &parts.missing);
    all.extend(missing);
    let count = all.len();
    spawn_blocking(move || all.iter().for_each(|digest| desk.store.pin(digest))).await?;
    Ok(Json(json!({ "pinned": count })))
}

pub(super) async fn unpin(
    State(admin): State<Admin>,
    what: Result<Json<What>, JsonRejection>,
) -> Answer {
    let desk = Arc::clone(&admin.0);
    let meant = Meant::by(&desk, what).await?;
    let mut all = meant.all();
    let missing = meant.images.iter().flat_map(|(_, parts)| &parts.missing);
    all.extend(missing);
    let unpinned = spawn_blocking(move || {
        let were = all.iter().filter(|digest| desk.store.unpin(digest));
        were.count()
    });
    Ok(Json(json!({ "unpinned": unpinned.await? })))
}

pub(super) async fn gc(State(admin): State<Admin>) -> Json<Value> {
    admin.0.store.ask_for(Chore::Walk);
    admin.0.store.ask_for(Chore::Room);
    Json(json!({ "begun": true }))
}

pub(super) async fn scrub(State(admin): State<Admin>) -> Json<Value> {
    admin.0.store.ask_for(Chore::Scrub);
    Json(json!({ "begun": true }))
}
