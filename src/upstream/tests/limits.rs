//! Quotas and 429s: what is read, what is held, what goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::server::{Reply, Seen, Server};
use super::world::*;
use crate::upstream::{ErrorKind, Limit};

const USED_UP: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"}]}"#;

/// Docker Hub with so many pulls left.
fn hub(seen: &Seen, left: &AtomicU64) -> Reply {
    let counts = seen.method == http::Method::GET && seen.path.contains("/manifests/");
    let before = left.load(Ordering::SeqCst);
    if counts && before == 0 {
        return Reply::new(429).body(USED_UP);
    }
    let now = left.fetch_sub(u64::from(counts), Ordering::SeqCst) - u64::from(counts);
    image_reply()
        .header("ratelimit-limit", "100;w=21600")
        .header("ratelimit-remaining", format!("{now};w=21600"))
        .header("docker-ratelimit-source", "192.0.2.1")
}

#[tokio::test]
async fn the_quota_is_read_shown_and_held() {
    let left = Arc::new(AtomicU64::new(2));
    let pulls = Arc::clone(&left);
    let server = Server::start(move |seen| hub(seen, &pulls)).await;
    let mut docker = registry("docker.io", &[&server.url()]);
    docker.quota_reserve = 2;
    let (upstream, metrics) = one(docker);
    let alpine = remote(&upstream, "docker.io/alpine");
    assert!(!scrape(&metrics).contains("rate_limit_remaining{"));
    assert!(!scrape(&metrics).contains("docker_hub_rate_limit_remaining"));
    alpine.head(&tag("1")).await.unwrap();
    assert!(!alpine.spares_quota().await);
    alpine.manifest(&tag("1")).await.unwrap();
    assert!(alpine.spares_quota().await);
    let quota = upstream.quota().remove(0);
    assert_eq!((quota.state.limit, quota.state.remaining), (100, 1));
    assert_eq!(quota.state.counted_as.as_deref(), Some("192.0.2.1"));
    let shown = scrape(&metrics);
    for line in [
        r#"rate_limit_total{account="anonymous",registry="docker.io"} 100"#,
        r#"rate_limit_remaining{account="anonymous",registry="docker.io"} 1"#,
        "docker_hub_rate_limit_remaining 1",
        r#"weir_pulls_counted_total{registry="docker.io"} 1"#,
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }

    alpine.manifest(&tag("1")).await.unwrap();
    let error = alpine.manifest(&tag("1")).await.unwrap_err();
    assert!(matches!(
        &error.kind,
        ErrorKind::RateLimited {
            limit: Limit::Quota,
            ..
        }
    ));
    assert!(error.to_string().contains("increase-rate-limit"), "{error}");
    server.take();
    alpine.manifest(&tag("1")).await.unwrap_err();
    assert!(server.take().is_empty(), "a held pull asks nobody");
    alpine.head(&tag("1")).await.unwrap();
    alpine.blob(&sha256(b""), 0).await.unwrap();
    server.take();

    pass(Duration::from_secs(61)).await;
    alpine.manifest(&tag("1")).await.unwrap_err();
    assert_eq!(server.lines(), ["HEAD /v2/library/alpine/manifests/1"]);
    left.store(5, Ordering::SeqCst);
    pass(Duration::from_secs(61)).await;
    alpine.manifest(&tag("1")).await.unwrap();
    let limited = r#"weir_upstream_rate_limited_total{kind="quota",registry="docker.io"} 1"#;
    assert!(scrape(&metrics).contains(limited));
}

#[tokio::test]
async fn abuse_holds_everything_for_a_moment() {
    let server = Server::start(|_| Reply::new(429).body("Too many requests")).await;
    let (upstream, metrics) = one(registry("ghcr.io", &[&server.url()]));
    let remote = remote(&upstream, "ghcr.io/a/b");
    let error = remote.head(&tag("1")).await.unwrap_err();
    assert!(matches!(
        &error.kind,
        ErrorKind::RateLimited {
            limit: Limit::Abuse,
            ..
        }
    ));
    remote.manifest(&tag("1")).await.unwrap_err();
    assert_eq!(server.take().len(), 1);
    pass(Duration::from_secs(2)).await;
    remote.head(&tag("1")).await.unwrap_err();
    assert_eq!(server.take().len(), 1);
    let limited = r#"weir_upstream_rate_limited_total{kind="abuse",registry="ghcr.io"} 2"#;
    assert!(scrape(&metrics).contains(limited));
}

#[tokio::test]
async fn an_account_without_a_limit_has_no_gauge() {
    let left = AtomicU64::new(50);
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/v2/library/a/manifests/1" => hub(seen, &left),
        _ => image_reply(),
    })
    .await;
    let (upstream, metrics) = one(registry("docker.io", &[&server.url()]));
    remote(&upstream, "docker.io/a")
        .head(&tag("1"))
        .await
        .unwrap();
    assert!(scrape(&metrics).contains("docker_hub_rate_limit_remaining 50"));
    remote(&upstream, "docker.io/b")
        .head(&tag("1"))
        .await
        .unwrap();
    assert!(!scrape(&metrics).contains("rate_limit_remaining{"));
    assert!(!scrape(&metrics).contains("docker_hub_rate_limit_remaining "));
}
