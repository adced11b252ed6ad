//! One repository at one registry, as one identity: the questions that the rest of weir asks.
//!
//! Each question walks along the endpoints; what an endpoint sent is checked before its turn ends,
//! so that wrong content moves on like no content.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HeaderMap, RANGE};
use http::{HeaderValue, Method};
use tokio::time::Instant;

use super::content::{self, BodyTime, MANIFEST_TYPES};
use super::endpoint::Endpoint;
use super::error::{Away, Error, ErrorKind};
use super::exchange::{Answer, Question, account};
use super::fault::Fault;
use super::query::Query;
use super::registry::Registry;
use super::transport::Lane;
use super::walk::{Patience, Turn, Walk};
use super::{Download, Fetched, Head, Identity, Source, TraceParent};
use crate::oci::{Digest, Reference, Target};

/// One repository at one registry as one identity; cheap to make and to clone.
#[derive(Debug, Clone)]
pub struct Remote {
    pub(super) registry: Arc<Registry>,
    pub(super) target: Target,
    pub(super) identity: Arc<Identity>,
    /// Who asks, where somebody follows that.
    pub(super) trace: Option<TraceParent>,
    /// When all questions together are to be answered, where they are parts of one.
    pub(super) until: Option<Instant>,
}

impl Remote {
    /// The same, as a part of this trace.
    pub fn traced(self, trace: Option<TraceParent>) -> Remote {
        Remote { trace, ..self }
    }

    /// The same, whose questions about manifests are parts of one and share the time that one has.
    pub fn for_one_question(self) -> Remote {
        Remote {
            until: Some(Patience::manifest().end()),
            ..self
        }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Asks what a tag or digest names now. Never counts as a pull.
    pub async fn head(&self, reference: &Reference) -> Result<Head, Error> {
        let mut walk = self.walk(None, Patience::head().until(self.until));
        loop {
            let turn = walk.next().await?;
            let question = self.about_manifest(Method::HEAD, reference, &turn);
            match self.registry.ask(&turn.endpoint, &question).await {
                Ok(answer) => {
                    turn.well();
                    return Ok(head(reference, answer));
                }
                Err(fault) if is_without_head(&fault) => {
                    let source = self.source_without_answer(&turn.endpoint);
                    turn.well();
                    return Ok(Head {
                        answered: false,
                        digest: None,
                        media_type: None,
                        length: None,
                        source,
                    });
                }
                Err(fault) => walk.failed(turn, fault)?,
            }
        }
    }

    /// Fetches a manifest. Its bytes match the reference's digest, or the one the registry stated.
    pub async fn manifest(&self, reference: &Reference) -> Result<Fetched, Error> {
        let digest = match reference {
            Reference::Digest(digest) => Some(digest),
            Reference::Tag(_) => None,
        };
        let mut walk = self.walk(digest, Patience::manifest().until(self.until));
        loop {
            let turn = walk.next().await?;
            let question = self.about_manifest(Method::GET, reference, &turn);
            match self.manifest_at(&turn.endpoint, &question, reference).await {
                Ok(fetched) => {
                    turn.well();
                    let Source {
                        endpoint,
                        credential,
                    } = &fetched.source;
                    let between = match reference {
                        Reference::Tag(_) => ':',
                        Reference::Digest(_) => '@',
                    };
                    tracing::info!(
                        %endpoint, %credential, digest = %fetched.manifest.digest,
                        "pulled {}{between}{reference} with credential {credential}", self.target
                    );
                    return Ok(fetched);
                }
                Err(fault) => walk.failed(turn, fault)?,
            }
        }
    }

    async fn manifest_at(
        &self,
        endpoint: &Endpoint,
        question: &Question<'_>,
        reference: &Reference,
    ) -> Result<Fetched, Fault> {
        let answer = self.registry.ask(endpoint, question).await?;
        let (from, source) = (answer.from, answer.source);
        let time = BodyTime::of_manifest(question.by, self.registry.limits.idle_timeout);
        let manifest = content::manifest(answer.response, reference, time)
            .await
            .map_err(|kind| Fault::at(&from, kind))?;
        self.registry
            .metrics
            .bytes
            .inc_by(manifest.bytes.len() as u64);
        Ok(Fetched { manifest, source })
    }

    /// Fetches a blob from `offset` on.
    pub async fn blob(&self, digest: &Digest, offset: u64) -> Result<Download, Error> {
        Download::open(self.clone(), *digest, offset, None).await
    }

    /// Fetches the bytes `first..=last` of a blob.
    pub async fn blob_range(
        &self,
        digest: &Digest,
        first: u64,
        last: u64,
    ) -> Result<Download, Error> {
        Download::open(self.clone(), *digest, first, Some(last)).await
    }

    /// Whether this repository has the blob: asked by HEAD, and when that says no, by a GET of one
    /// byte, since caches deny what they have not fetched yet.
    pub async fn blob_exists(&self, digest: &Digest) -> Result<bool, Error> {
        match self.blob_found(digest).await {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind, ErrorKind::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn blob_found(&self, digest: &Digest) -> Result<(), Error> {
        let mut walk = self.walk(Some(digest), Patience::manifest());
        loop {
            let turn = walk.next().await?;
            match self.blob_found_at(&turn, digest).await {
                Ok(()) => {
                    turn.well();
                    return Ok(());
                }
                Err(fault) => walk.failed(turn, fault)?,
            }
        }
    }

    async fn blob_found_at(&self, turn: &Turn, digest: &Digest) -> Result<(), Fault> {
        let mut question = self.about_blob(Method::HEAD, digest, turn);
        let denied = match self.registry.ask(&turn.endpoint, &question).await {
            Ok(_) => return Ok(()),
            Err(fault) => matches!(fault.kind, ErrorKind::NotFound) || is_without_head(&fault),
        };
        // Anything else is worth the second question too: it is the one that decides.
        tracing::debug!(image = %self.target, %digest, denied, "asking for one byte of a blob");
        question.method = Method::GET;
        let first_byte = HeaderValue::from_static("bytes=0-0");
        question.headers.push((RANGE, first_byte));
        self.registry.ask(&turn.endpoint, &question).await.map(drop)
    }

    /// Notes that what came from `source` under `digest` was wrong: others are asked first for it,
    /// and it speaks against the endpoint.
    pub fn mark_wrong(&self, digest: &Digest, source: &Source) {
        self.registry.shun(&source.endpoint, digest);
    }

    /// Whether so few pulls are left that nothing that counts should be asked for what is cached.
    pub async fn spares_quota(&self) -> bool {
        let reserve = self.registry.config.quota_reserve;
        let Some(endpoint) = self.registry.endpoints.first() else {
            return false;
        };
        let credential = self
            .registry
            .credential(endpoint, &self.target, &self.identity);
        let Ok(credential) = credential.await else {
            return false;
        };
        let account = account(credential.as_ref());
        let now = self.registry.clock.now();
        endpoint.quota.is_scarce(&account, reserve, now)
    }

    pub(super) fn walk(&self, digest: Option<&Digest>, patience: Patience) -> Walk {
        let order = self.registry.order(digest);
        Walk::new(Arc::clone(&self.registry), order, patience)
    }

    pub(super) fn question(&self, method: Method, what: String, turn: &Turn) -> Question<'_> {
        Question {
            target: &self.target,
            identity: &self.identity,
            method,
            what,
            query: Query::default(),
            accept: "*/*",
            headers: self
                .trace
                .iter()
                .map(|trace| (TraceParent::HEADER, trace.to_header()))
                .collect(),
            if_range: None,
            lane: Lane::Control,
            is_manifest: false,
            by: turn.by,
            latest: turn.latest,
        }
    }

    pub(super) fn about_manifest(
        &self,
        method: Method,
        reference: &Reference,
        turn: &Turn,
    ) -> Question<'_> {
        Question {
            accept: MANIFEST_TYPES,
            is_manifest: true,
            ..self.question(method, format!("manifests/{reference}"), turn)
        }
    }

    pub(super) fn about_blob(&self, method: Method, digest: &Digest, turn: &Turn) -> Question<'_> {
        Question {
            lane: Lane::Bulk,
            ..self.question(method, format!("blobs/{digest}"), turn)
        }
    }

    fn source_without_answer(&self, endpoint: &Endpoint) -> Source {
        Source {
            endpoint: Arc::clone(&endpoint.origin),
            credential: super::ANONYMOUS.into(),
        }
    }
}

fn head(reference: &Reference, answer: Answer) -> Head {
    let headers = answer.response.headers();
    let digest = match reference {
        Reference::Digest(digest) => Some(*digest),
        Reference::Tag(_) => content::stated_digest(headers),
    };
    Head {
        answered: true,
        digest,
        media_type: content::stated_type(headers),
        length: length(headers),
        source: answer.source,
    }
}

pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The registry does not serve HEAD, which says nothing about what is asked for.
fn is_without_head(fault: &Fault) -> bool {
    match &fault.kind {
        ErrorKind::Away(Away::Status { status, .. }) => matches!(status, 405 | 501),
        ErrorKind::Away(_)
        | ErrorKind::NotFound
        | ErrorKind::Refused { .. }
        | ErrorKind::RateLimited { .. }
        | ErrorKind::Wrong(_) => false,
    }
}
