//! Which registry a request means: `ns`, the host, the path, the default; and nothing else.

use crate::support::{House, On, Upstream, Weir, manifest_path};

/// Docker Hub and GHCR, each with its own image under one and the same name.
async fn two_registries() -> (Upstream, Upstream, House) {
    let hub = Upstream::start().await;
    let ghcr = Upstream::start().await;
    hub.image("acme/app:1");
    ghcr.image_of("acme/app:1", &[300]);
    let house = House::in_front_of(&hub)
        .registry("ghcr.io", &ghcr)
        .config("[registries.\"ghcr.io\"]\nhosts = [\"ghcr.mirror.internal\"]");
    (hub, ghcr, house)
}

#[tokio::test]
async fn each_way_to_name_a_registry_leads_to_its_own_content() {
    let (hub, ghcr, house) = two_registries().await;
    let weir = house.start().await;
    let client = weir.client();

    let plain = client.manifest("acme/app", "1").await;
    let by_ns = client.get("/v2/acme/app/manifests/1?ns=ghcr.io").await;
    let by_prefix = client.manifest("ghcr.io/acme/app", "1").await;
    let virtual_host = client.clone().with("host", "ghcr.mirror.internal");
    let by_host = virtual_host.manifest("acme/app", "1").await;
    let with_port = client.clone().with("host", "GHCR.mirror.internal:5000");
    let by_host_and_port = with_port.manifest("acme/app", "1").await;

    assert_ne!(plain.whole(200), by_ns.whole(200));
    for answer in [&by_prefix, &by_host, &by_host_and_port] {
        assert_eq!(answer.whole(200), by_ns.whole(200));
    }
    assert_eq!(by_ns.header("oci-namespace"), Some("ghcr.io"));
    assert_eq!(hub.count(On::Manifest), 1);
    assert_eq!(ghcr.count(On::Manifest), 1, "the ways share one cache");
}

#[tokio::test]
async fn ns_is_believed_before_the_host() {
    let (hub, ghcr, house) = two_registries().await;
    let weir = house.start().await;
    let client = weir.client().with("host", "ghcr.mirror.internal");
    let answer = client.get("/v2/acme/app/manifests/1?ns=docker.io").await;
    answer.whole(200);
    assert_eq!(answer.header("oci-namespace"), Some("docker.io"));
    assert_eq!((hub.count(On::Manifest), ghcr.count(On::Manifest)), (1, 0));
}

#[tokio::test]
async fn all_spellings_of_docker_hub_are_one_registry() {
    let hub = Upstream::start().await;
    hub.image("library/alpine:3.20");
    let weir = Weir::in_front_of(&hub).await;
    let client = weir.client();
    for spelling in [
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "registry.hub.docker.com",
        "hub.docker.com",
    ] {
        for path in [
            format!("/v2/library/alpine/manifests/3.20?ns={spelling}"),
            format!("/v2/alpine/manifests/3.20?ns={spelling}"),
            format!("/v2/{spelling}/library/alpine/manifests/3.20"),
            format!("/v2/{spelling}/alpine/manifests/3.20"),
        ] {
            client.get(&path).await.whole(200);
        }
    }
    assert_eq!(hub.count(On::Manifest), 1);
    let asked = &hub.requests(On::Manifest)[0].uri;
    assert_eq!(*asked, manifest_path("library/alpine", "3.20"));
}

#[tokio::test]
async fn an_image_name_of_one_part_is_an_official_image() {
    let hub = Upstream::start().await;
    let image = hub.image("library/alpine:3.20");
    let weir = Weir::in_front_of(&hub).await;
    let answer = weir.client().manifest("alpine", "3.20").await;
    assert_eq!(answer.whole(200), &image.manifest.bytes);
}

#[tokio::test]
async fn only_docker_hub_has_official_images() {
    let ghcr = Upstream::start().await;
    let image = ghcr.image("alpine:1");
    let weir = House::empty().registry("ghcr.io", &ghcr).start().await;
    let answer = weir.client().manifest("ghcr.io/alpine", "1").await;
    assert_eq!(answer.whole(200), &image.manifest.bytes);
}

#[tokio::test]
async fn an_unknown_registry_is_refused_and_never_dialled() {
    let hub = Upstream::start().await;
    let stranger = Upstream::start().await;
    stranger.image("acme/app:1");
    let weir = Weir::in_front_of(&hub).await;
    let client = weir.client();
    let address = stranger.endpoint().replace("http://", "");

    for path in [
        format!("/v2/acme/app/manifests/1?ns={address}"),
        "/v2/acme/app/manifests/1?ns=registry.example.com".to_owned(),
        format!("/v2/{address}/acme/app/manifests/1"),
        "/v2/registry.example.com/acme/app/manifests/1".to_owned(),
    ] {
        let answer = client.get(&path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.error_code(), "NAME_UNKNOWN", "{path}");
    }
    let answer = client
        .get("/v2/a/manifests/1?ns=registry.example.com")
        .await;
    let message = answer.error_message();
    assert!(message.contains("registry.example.com"), "{message}");
    assert!(message.contains("docker.io"), "{message}");
    assert!(stranger.all_requests().is_empty());
    assert!(hub.all_requests().is_empty());
}

#[tokio::test]
async fn what_is_no_registry_name_is_refused() {
    let hub = Upstream::start().await;
    let weir = Weir::in_front_of(&hub).await;
    for ns in [
        "",
        "..",
        "a%2fb",
        "user:pw@docker.io",
        "http://169.254.169.254",
    ] {
        let path = format!("/v2/acme/app/manifests/1?ns={ns}");
        let answer = weir.client().get(&path).await;
        assert!(
            (400..500).contains(&answer.status),
            "{ns}: {}",
            answer.status
        );
    }
    assert!(hub.all_requests().is_empty());
}

#[tokio::test]
async fn without_a_default_a_bare_name_means_nothing() {
    let ghcr = Upstream::start().await;
    ghcr.image("acme/app:1");
    let house = House::empty()
        .registry("ghcr.io", &ghcr)
        .config("builtin_registries = false");
    let weir = house.start().await;
    let answer = weir.client().manifest("acme/app", "1").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.error_code(), "NAME_UNKNOWN");
    assert!(answer.error_message().contains("ghcr.io"));
    weir.client()
        .manifest("ghcr.io/acme/app", "1")
        .await
        .whole(200);
}

#[tokio::test]
async fn the_ping_needs_no_upstream() {
    let hub = Upstream::start().await;
    let weir = Weir::in_front_of(&hub).await;
    for path in ["/v2/", "/v2"] {
        let answer = weir.client().get(path).await;
        answer.whole(200);
        let version = answer.header("docker-distribution-api-version");
        assert_eq!(version, Some("registry/2.0"));
    }
    assert!(hub.all_requests().is_empty());
}
