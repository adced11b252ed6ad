//! The registry itself: challenges, manifests with their quota, tags, referrers, and blobs by
//! redirect.

use http::Method;
use serde_json::json;

use super::cdn;
use super::content::Manifest;
use super::fault::QUOTA_BODY;
use super::log::{Asked, On};
use super::send::Reply;
use super::settings::{Auth, Settings};
use super::token::basic_account;
use super::{REALM_SERVICE, State};

/// Where blobs are under a relative `Location`.
const DOWNLOADS: &str = "/artifacts-downloads";
const QUOTA_WINDOW_SECONDS: u32 = 21_600;

/// What a path asks for.
enum Wanted<'a> {
    Ping,
    Manifest(&'a str, &'a str),
    Blob(&'a str, &'a str),
    Tags(&'a str),
    Referrers(&'a str, &'a str),
}

impl<'a> Wanted<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/")?;
        if rest.is_empty() {
            return Some(Wanted::Ping);
        }
        let (rest, last) = rest.rsplit_once('/')?;
        let (repository, verb) = rest.rsplit_once('/')?;
        match verb {
            "manifests" => Some(Wanted::Manifest(repository, last)),
            "blobs" => Some(Wanted::Blob(repository, last)),
            "tags" => Some(Wanted::Tags(repository)),
            "referrers" => Some(Wanted::Referrers(repository, last)),
            _ => None,
        }
    }

    fn repository(&self) -> Option<&'a str> {
        match self {
            Wanted::Ping => None,
            Wanted::Manifest(repository, _)
            | Wanted::Blob(repository, _)
            | Wanted::Tags(repository)
            | Wanted::Referrers(repository, _) => Some(repository),
        }
    }
}

pub(super) fn answer(state: &State, asked: &Asked) -> (On, Reply) {
    if let Some(path) = asked.path.strip_prefix(DOWNLOADS) {
        let mut signed = asked.clone();
        signed.path = path.to_owned();
        return cdn::fetch(state, &signed);
    }
    let settings = state.settings();
    let Some(wanted) = Wanted::parse(&asked.path) else {
        return (On::Odd, Reply::error(404, "UNSUPPORTED", "no such path"));
    };
    let account = match authenticate(state, &settings, asked, wanted.repository()) {
        Ok(account) => account,
        Err(challenge) => return (On::Challenge, *challenge),
    };
    let (on, reply) = find(state, &settings, asked, &wanted, account);
    (on, dress(&settings, reply))
}

/// Who asks; `Err` is the challenge.
fn authenticate(
    state: &State,
    settings: &Settings,
    asked: &Asked,
    repository: Option<&str>,
) -> Result<Option<String>, Box<Reply>> {
    let refusal = |challenge: String| {
        let refused = Reply::error(401, "UNAUTHORIZED", "authentication required");
        Box::new(refused.with("www-authenticate", challenge))
    };
    match settings.auth {
        Auth::Open => Ok(None),
        Auth::Basic => match basic_account(settings, asked) {
            Ok(Some(account)) => Ok(Some(account)),
            Ok(None) | Err(()) => Err(refusal(format!("Basic realm=\"{REALM_SERVICE}\""))),
        },
        Auth::Bearer => {
            let scope = repository.map(|name| format!("repository:{name}:pull"));
            let bound = scope.as_deref().filter(|_| settings.token.bound_to_scope);
            let token = asked
                .header("authorization")
                .and_then(|header| header.strip_prefix("Bearer "));
            let error = match token.map(|token| state.tokens().check(token, bound)) {
                Some(Ok(granted)) => return Ok(granted.account),
                Some(Err(error)) => format!(",error=\"{error}\""),
                None => String::new(),
            };
            let realm = settings.token.realm.clone();
            let realm = realm.unwrap_or_else(|| state.token_realm());
            let scope = settings.token.scope.clone().or(scope);
            let scope = scope.map_or(String::new(), |scope| format!(",scope=\"{scope}\""));
            Err(refusal(format!(
                "Bearer realm=\"{realm}\",service=\"{REALM_SERVICE}\"{scope}{error}"
            )))
        }
    }
}

fn find(
    state: &State,
    settings: &Settings,
    asked: &Asked,
    wanted: &Wanted<'_>,
    account: Option<String>,
) -> (On, Reply) {
    let is_head = asked.method == Method::HEAD;
    let on = match wanted {
        Wanted::Ping => return (On::Ping, Reply::json(200, &json!({}))),
        Wanted::Manifest(..) if settings.redirect_manifests => On::ManifestRedirect,
        Wanted::Manifest(..) if is_head => On::ManifestHead,
        Wanted::Manifest(..) => On::Manifest,
        Wanted::Blob(..) if is_head => On::BlobHead,
        Wanted::Blob(..) if settings.redirect => On::BlobRedirect,
        Wanted::Blob(..) => On::Blob,
        Wanted::Tags(_) => On::Tags,
        Wanted::Referrers(..) => On::Referrers,
    };
    let shelf = state.shelf();
    let name = wanted.repository().unwrap_or_default();
    let name = name.strip_prefix(settings.prefix.trim_matches('/'));
    let name = name.map_or("", |name| name.trim_start_matches('/'));
    // A token that was granted is good until it expires, whatever has changed since.
    if settings.auth == Auth::Basic && !settings.lets_in(account.as_deref(), name) {
        let refusal = match settings.hides {
            true => Reply::error(404, "NAME_UNKNOWN", "repository name not known to registry"),
            false => Reply::error(403, "DENIED", "requested access to the resource is denied"),
        };
        return (on, refusal);
    }
    let Some(repository) = shelf.repository(name) else {
        let unknown = Reply::error(404, "NAME_UNKNOWN", "repository name not known to registry");
        return (on, unknown);
    };
    let reply = match wanted {
        Wanted::Ping => Reply::json(200, &json!({})),
        Wanted::Manifest(_, reference) => match repository.manifest(reference) {
            Some(_) if settings.redirect_manifests => {
                redirect(state, settings, "manifests", name, reference)
            }
            Some(manifest) => counted(state, settings, asked, account, manifest),
            None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        },
        Wanted::Blob(_, digest) => match repository.blob(digest) {
            Some(_) if is_head && settings.blob_head_is_404 => {
                Reply::error(404, "BLOB_UNKNOWN", "not fetched yet")
            }
            Some(_) if settings.redirect && !is_head => {
                redirect(state, settings, "blobs", name, digest)
            }
            Some(blob) => {
                cdn::blob_reply(asked, blob, settings.ranges).with("docker-content-digest", digest)
            }
            None => Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
        },
        Wanted::Tags(full) => tags(settings, asked, full, repository),
        Wanted::Referrers(_, subject) if settings.referrers => {
            let wanted = asked.parameters("artifactType").into_iter().next();
            let index = repository.referrers(subject, wanted.as_deref());
            Reply::json(200, &index).with("content-type", super::content::Family::Oci.index())
        }
        Wanted::Referrers(..) => Reply::new(404, "404 page not found"),
    };
    (on, reply)
}

/// A manifest, where the quota of whoever asks allows it. HEAD is free.
fn counted(
    state: &State,
    settings: &Settings,
    asked: &Asked,
    account: Option<String>,
    manifest: &Manifest,
) -> Reply {
    let mut reply = manifest_reply(manifest);
    let is_head = asked.method == Method::HEAD;
    if is_head && !settings.digest_on_head {
        reply.headers.remove("docker-content-digest");
    }
    let Some(limit) = settings.quota else {
        return reply;
    };
    let source = account.unwrap_or_else(|| "192.0.2.1".to_owned());
    let (allowed, remaining) = state.use_quota(&source, limit, !is_head);
    if !allowed {
        reply = Reply::new(429, QUOTA_BODY).with("content-type", "application/json");
    }
    reply
        .with(
            "ratelimit-limit",
            format!("{limit};w={QUOTA_WINDOW_SECONDS}"),
        )
        .with(
            "ratelimit-remaining",
            format!("{remaining};w={QUOTA_WINDOW_SECONDS}"),
        )
        .with("docker-ratelimit-source", source)
}

pub(super) fn manifest_reply(manifest: &Manifest) -> Reply {
    let digest = manifest.digest.to_string();
    Reply::new(200, manifest.bytes.clone())
        .with("content-type", &manifest.media_type)
        .with("docker-content-digest", &digest)
        .with("etag", format!("\"{digest}\""))
}

fn redirect(state: &State, settings: &Settings, kind: &str, name: &str, what: &str) -> Reply {
    let path = cdn::sign(state, kind, name, what);
    let location = if settings.relative_location {
        format!("{DOWNLOADS}{path}")
    } else {
        format!("http://{}{path}", state.cdn_address())
    };
    Reply::new(307, "").with("location", location)
}

fn tags(
    settings: &Settings,
    asked: &Asked,
    full: &str,
    repository: &super::shelf::Repository,
) -> Reply {
    let number = asked.parameters("n").into_iter().next();
    let number = number.and_then(|n| n.parse().ok());
    let number = number.unwrap_or(settings.tags_page);
    let last = asked.parameters("last").into_iter().next();
    let (page, more) = repository.tags(last.as_deref(), number);
    let reply = Reply::json(200, &json!({"name": full, "tags": page}));
    match page.last() {
        Some(last) if more => reply.with(
            "link",
            format!("</v2/{full}/tags/list?last={last}&n={number}>; rel=\"next\""),
        ),
        Some(_) | None => reply,
    }
}

fn dress(settings: &Settings, reply: Reply) -> Reply {
    let mut reply = reply.with("docker-distribution-api-version", "registry/2.0");
    if settings.fat_headers {
        for number in 0..60 {
            reply.set(&format!("x-fat-{number}"), &"f".repeat(1000));
        }
    }
    reply
}
