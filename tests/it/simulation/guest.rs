//! Those who come: whole pulls, single blobs, parts of them, slow readers, people who leave, and some
//! who ask for what is not theirs.
//!
//! Whatever they are given is checked on the spot; only what they were not given is reported.

use std::ops::Range;

use bytes::Bytes;
use http::Method;
use weir::oci::{Algorithm, Digest};

use super::catalog::{repository, tag};
use crate::support::client::Open;
use crate::support::{Answer, Client, Content, Ended, Image, blob_path, manifest_path};

/// What somebody comes for.
#[derive(Debug, Clone)]
pub(super) enum Visit {
    /// A whole image, by its tag.
    Image {
        name: String,
        /// What the answer may be; the last is what it should be.
        images: Vec<Image>,
        /// docker and containerd ask by HEAD, podman and skopeo by GET.
        by_head: bool,
    },
    /// A tag that is gone.
    Gone {
        name: String,
    },
    Blob {
        repository: String,
        blob: Content,
    },
    Part {
        repository: String,
        blob: Content,
        range: Range<usize>,
    },
    /// Reads a part and hangs up.
    Leave {
        repository: String,
        blob: Content,
        after: usize,
    },
    Slow {
        repository: String,
        blob: Content,
    },
    Trespass {
        repository: String,
        blob: Content,
    },
}

/// What somebody left with.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Got {
    pub(super) manifest: bool,
    pub(super) everything: bool,
}

/// One who comes, after `patience` turns of the others.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) visit: Visit,
    pub(super) late: usize,
    /// The upstream tells lies today: parts of content may be wrong, the whole never.
    pub(super) lies: bool,
}

impl Guest {
    pub(super) async fn come(self, client: Client) -> Got {
        for _ in 0..self.late {
            tokio::task::yield_now().await;
        }
        let all = |everything| Got {
            manifest: everything,
            everything,
        };
        match &self.visit {
            Visit::Image {
                name,
                images,
                by_head,
            } => pull(&client, name, images, *by_head).await,
            Visit::Gone { name } => {
                let path = manifest_path(repository(name), tag(name));
                let answer = ask(&client, Method::GET, &path).await;
                all(answer.is_some_and(|answer| answer.status == 404))
            }
            Visit::Blob { repository, blob } => all(whole(&client, repository, blob).await),
            Visit::Part {
                repository,
                blob,
                range,
            } => all(self.part(&client, repository, blob, range).await),
            Visit::Leave {
                repository,
                blob,
                after,
            } => {
                if let Some(mut open) = open(&client, Method::GET, repository, blob).await
                    && open.status == 200
                    && !self.lies
                {
                    read_some(&mut open, blob, *after).await;
                }
                all(true)
            }
            Visit::Slow { repository, blob } => all(whole(&client.slow(), repository, blob).await),
            Visit::Trespass { repository, blob } => {
                let path = blob_path(repository, &blob.digest);
                let Some(answer) = ask(&client, Method::GET, &path).await else {
                    return all(false);
                };
                assert!(answer.status >= 400, "{repository} was given a secret");
                all(answer.status == 404)
            }
        }
    }

    async fn part(
        &self,
        client: &Client,
        repository: &str,
        blob: &Content,
        range: &Range<usize>,
    ) -> bool {
        let wanted = format!("bytes={}-{}", range.start, range.end - 1);
        let client = client.clone().with("range", &wanted);
        let path = blob_path(repository, &blob.digest);
        let Some(answer) = ask(&client, Method::GET, &path).await else {
            return false;
        };
        match answer.status {
            206 if answer.ended == Ended::Whole => {
                assert!(
                    self.lies || answer.bytes == blob.bytes[range.clone()],
                    "{wanted}"
                );
                true
            }
            // There was no room to keep it, so there are no parts of it.
            200 => check_whole(&answer, blob),
            416 => {
                assert!(self.lies, "{wanted}: {}", answer.text());
                false
            }
            _ => false,
        }
    }
}

async fn read_some(open: &mut Open, blob: &Content, length: usize) {
    if let Some(bytes) = open.try_read(length).await {
        assert_eq!(bytes, blob.bytes[..length]);
    }
}

/// `None`: there was nobody, or no answer.
async fn ask(client: &Client, method: Method, path: &str) -> Option<Answer> {
    let answer = client.try_send(method, path).await.ok()?.rest().await;
    // A lie about the length may leave nothing of a range.
    let known = [200, 206, 404, 416, 429, 502, 503, 504];
    assert!(
        known.contains(&answer.status),
        "{}: {}",
        answer.status,
        answer.text()
    );
    Some(answer)
}

async fn open(client: &Client, method: Method, repository: &str, blob: &Content) -> Option<Open> {
    let path = blob_path(repository, &blob.digest);
    client.try_send(method, &path).await.ok()
}

async fn whole(client: &Client, repository: &str, blob: &Content) -> bool {
    let path = blob_path(repository, &blob.digest);
    match ask(client, Method::GET, &path).await {
        Some(answer) if answer.status == 200 => check_whole(&answer, blob),
        Some(_) | None => false,
    }
}

/// Whether it is all there; what is all there has to be right.
fn check_whole(answer: &Answer, blob: &Content) -> bool {
    let is_whole = answer.ended == Ended::Whole;
    if is_whole {
        assert_eq!(Digest::of(Algorithm::Sha256, &answer.bytes), blob.digest);
    } else {
        assert_eq!(answer.ended, Ended::Closed, "a cut is an orderly close");
        let promised = answer.length_header().unwrap_or(usize::MAX);
        assert!(
            answer.bytes.len() < promised,
            "a client would take it for whole"
        );
    }
    is_whole
}

async fn pull(client: &Client, name: &str, images: &[Image], by_head: bool) -> Got {
    let repository = repository(name);
    let mut got = Got::default();
    let method = if by_head { Method::HEAD } else { Method::GET };
    let path = manifest_path(repository, tag(name));
    let Some(first) = ask(client, method, &path).await.filter(|a| a.status == 200) else {
        return got;
    };
    let said = first.header("docker-content-digest").expect("a digest");
    let fitting = images
        .iter()
        .find(|image| image.manifest.digest.to_string() == said);
    let image = fitting.unwrap_or_else(|| panic!("{name} never was {said}"));
    let bytes: Bytes = if by_head {
        let path = manifest_path(repository, image.manifest.digest);
        match ask(client, Method::GET, &path).await {
            Some(answer) if answer.status == 200 => answer.bytes,
            Some(_) | None => return got,
        }
    } else {
        first.bytes.clone()
    };
    assert_eq!(bytes, image.manifest.bytes);
    got.manifest = true;
    for blob in image.blobs() {
        if !whole(client, repository, blob).await {
            return got;
        }
    }
    got.everything = true;
    got
}
