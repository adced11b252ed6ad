//! Lists that are passed through: tags with their pages, referrers; and the catalog of what is
//! cached.

use std::time::Duration;

use crate::support::{Auth, HeldTime, House, On, Upstream, Weir};

/// A repository with the tags 1 to 5.
async fn five_tags() -> (Upstream, House) {
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    for tag in 2..=5 {
        upstream.push(&format!("acme/app:{tag}"), &image);
    }
    let house = House::in_front_of(&upstream);
    (upstream, house)
}

fn tags(text: &str) -> Vec<String> {
    let body: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let tags = body["tags"].as_array().expect("tags").iter();
    tags.map(|tag| tag.as_str().expect("a tag").to_owned())
        .collect()
}

#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let (upstream, house) = five_tags().await;
    let weir = house.start().await;
    let client = weir.client();
    let all = client.get("/v2/acme/app/tags/list").await;
    all.whole(200);
    assert_eq!(tags(&all.text()), ["1", "2", "3", "4", "5"]);

    let mut path = "/v2/acme/app/tags/list?n=2".to_owned();
    let mut found = Vec::new();
    loop {
        let page = client.get(&path).await;
        page.whole(200);
        found.extend(tags(&page.text()));
        let Some(link) = page.header("link") else {
            break;
        };
        assert!(link.contains("rel=\"next\""), "{link}");
        let end = link.find('>').expect("a link");
        path = link[1..end].to_owned();
        assert!(path.starts_with("/v2/"), "the next page is weir's: {path}");
    }
    assert_eq!(found, ["1", "2", "3", "4", "5"]);
    assert_eq!(upstream.count(On::Tags), 4);
}

#[tokio::test]
async fn the_next_page_leads_back_the_way_the_client_came() {
    let (_hub, house) = five_tags().await;
    let ghcr = Upstream::with(|settings| {
        settings.auth = Auth::Open;
        settings.prefix = "/mirror".to_owned();
    })
    .await;
    let image = ghcr.image("acme/app:a");
    ghcr.push("acme/app:b", &image);
    let weir = house.registry("ghcr.io", &ghcr).start().await;
    let client = weir.client();
    for path in [
        "/v2/acme/app/tags/list?n=1&ns=ghcr.io",
        "/v2/ghcr.io/acme/app/tags/list?n=1",
    ] {
        let page = client.get(path).await;
        assert_eq!(tags(&page.text()), ["a"], "{path}");
        let link = page.header("link").expect("more");
        let end = link.find('>').expect("a link");
        let next = client.get(&link[1..end]).await;
        assert_eq!(tags(&next.text()), ["b"], "{path} then {link}");
    }
}

#[tokio::test]
async fn a_list_is_kept_for_a_while_and_served_stale() {
    let time = HeldTime::hold();
    let (upstream, house) = five_tags().await;
    let weir = house.clock(time.clock()).start().await;
    let client = weir.client();
    let path = "/v2/acme/app/tags/list";
    let first = client.get(path).await;
    client.get(path).await.whole(200);
    assert_eq!(upstream.count(On::Tags), 1);

    time.pass(Duration::from_secs(300)).await;
    upstream.go_away().await;
    let (stale, _) = time.pass_during(client.get(path)).await;
    assert_eq!(tags(&stale.text()), tags(&first.text()));
    assert!(stale.header("warning").is_some());
}

#[tokio::test]
async fn referrers_are_passed_through() {
    let upstream = Upstream::start().await;
    let image = upstream.image("acme/app:1");
    let signature = upstream.refer("acme/app", &image.manifest, "application/vnd.example.sig");
    let weir = Weir::in_front_of(&upstream).await;
    let path = format!("/v2/acme/app/referrers/{}", image.manifest.digest);
    let all = weir.client().get(&path).await;
    all.whole(200);
    assert!(all.text().contains(&signature.digest.to_string()));
    let index = "application/vnd.oci.image.index.v1+json";
    assert_eq!(all.header("content-type"), Some(index));
    weir.client()
        .manifest("acme/app", signature.digest)
        .await
        .whole(200);
}

#[tokio::test]
async fn an_upstream_without_referrers_has_the_fallback_tag() {
    let upstream = Upstream::with(|settings| settings.referrers = false).await;
    let image = upstream.image("acme/app:1");
    let index = upstream.index("acme/other:1");
    let fallback = image.manifest.digest.to_string().replace(':', "-");
    upstream.push_manifest(&format!("acme/app:{fallback}"), &index.manifest);
    let weir = Weir::in_front_of(&upstream).await;
    let path = format!("/v2/acme/app/referrers/{}", image.manifest.digest);
    let found = weir.client().get(&path).await;
    assert_eq!(found.whole(200), &index.manifest.bytes);
}

#[tokio::test]
async fn the_catalog_names_what_is_cached() {
    let upstream = Upstream::start().await;
    upstream.image("acme/app:1");
    upstream.image("library/alpine:3.20");
    let weir = Weir::in_front_of(&upstream).await;
    weir.client().pull("acme/app", "1").await;
    let catalog = weir.client().get("/v2/_catalog").await;
    catalog.whole(200);
    assert!(catalog.text().contains("acme/app"), "{}", catalog.text());
    assert!(!catalog.text().contains("alpine"), "{}", catalog.text());
}
