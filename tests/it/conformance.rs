//! The OCI distribution conformance suite in its read-only form, imitated case by case: what a
//! registry has to do that is only pulled from. Every case is called as it is there.
//!
//! Source: opencontainers/distribution-spec, `conformance/01_pull_test.go` and
//! `03_discovery_test.go`; `images` has the odd ones of the later suite. Each case runs twice, with
//! nothing cached and with everything.

mod images;

use http::Method;
use serde_json::{Value, json};
use weir::oci::Digest;

use crate::support::client::Answer;
use crate::support::content;
use crate::support::{Client, Ended, Image, Manifest, Upstream, Weir};

const REPOSITORY: &str = "conformance/pull";
const NONEXISTENT_MANIFEST: &str = ".INVALID_MANIFEST_NAME";
const DUMMY_DIGEST: &str =
    "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The codes that the specification knows.
const ERROR_CODES: [&str; 14] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
];

fn path(what: &str) -> String {
    format!("/v2/{REPOSITORY}/{what}")
}

fn manifest(reference: impl std::fmt::Display) -> String {
    path(&format!("manifests/{reference}"))
}

fn blob(digest: impl std::fmt::Display) -> String {
    path(&format!("blobs/{digest}"))
}

/// One case: what is sent, and the status that is to come back.
struct Case {
    name: &'static str,
    method: Method,
    path: String,
    status: u16,
    /// What `Docker-Content-Digest` has to say, where it says something.
    digest: Option<Digest>,
}

impl Case {
    fn new(name: &'static str, method: Method, path: String, status: u16) -> Case {
        Case {
            name,
            method,
            path,
            status,
            digest: None,
        }
    }

    fn of(self, digest: Digest) -> Case {
        Case {
            digest: Some(digest),
            ..self
        }
    }

    async fn run(&self, client: &Client) -> Answer {
        let client = client.clone().with("accept", OCI_MANIFEST);
        let answer = client.send(self.method.clone(), &self.path).await;
        let answer = answer.rest().await;
        let name = self.name;
        assert_eq!(answer.status, self.status, "{name}: {}", answer.text());
        assert_eq!(answer.ended, Ended::Whole, "{name}");
        if let (Some(expected), Some(found)) = (self.digest, answer.header("docker-content-digest"))
        {
            assert_eq!(found, expected.to_string(), "{name}");
        }
        answer
    }
}

fn pull_cases(image: &Image) -> Vec<Case> {
    let config = image.config.digest;
    let digest = image.manifest.digest;
    let (get, head) = (Method::GET, Method::HEAD);
    let case = Case::new;
    vec![
        case(
            "HEAD request to nonexistent blob should result in 404 response",
            head.clone(),
            blob(DUMMY_DIGEST),
            404,
        ),
        case(
            "HEAD request to existing blob should yield 200",
            head.clone(),
            blob(config),
            200,
        )
        .of(config),
        case(
            "GET nonexistent blob should result in 404 response",
            get.clone(),
            blob(DUMMY_DIGEST),
            404,
        ),
        case(
            "GET request to existing blob URL should yield 200",
            get.clone(),
            blob(config),
            200,
        )
        .of(config),
        case(
            "HEAD request to nonexistent manifest should return 404",
            head.clone(),
            manifest(NONEXISTENT_MANIFEST),
            404,
        ),
        case(
            "HEAD request to manifest path (digest) should yield 200 response",
            head.clone(),
            manifest(digest),
            200,
        )
        .of(digest),
        case(
            "HEAD request to manifest path (tag) should yield 200 response",
            head,
            manifest("tagtest0"),
            200,
        )
        .of(digest),
        case(
            "GET nonexistent manifest should return 404",
            get.clone(),
            manifest(NONEXISTENT_MANIFEST),
            404,
        ),
        case(
            "GET request to manifest path (digest) should yield 200 response",
            get.clone(),
            manifest(digest),
            200,
        )
        .of(digest),
        case(
            "GET request to manifest path (tag) should yield 200 response",
            get.clone(),
            manifest("tagtest0"),
            200,
        )
        .of(digest),
        case(
            "GET request to base API route must return 200 response",
            get,
            "/v2/".to_owned(),
            200,
        ),
    ]
}

#[tokio::test]
async fn the_pull_category_passes() {
    let upstream = Upstream::start().await;
    let image = upstream.image(&format!("{REPOSITORY}:tagtest0"));
    let weir = Weir::in_front_of(&upstream).await;
    for _cold_then_warm in 0..2 {
        for case in pull_cases(&image) {
            let answer = case.run(&weir.client()).await;
            let is_body = case.method == Method::GET && case.status == 404;
            if is_body {
                assert!(
                    ERROR_CODES.contains(&&*answer.error_code()),
                    "{}",
                    case.name
                );
            }
        }
        for layer in &image.layers {
            let answer = weir.client().get(&blob(layer.digest)).await;
            assert_eq!(answer.whole(200), &layer.bytes);
        }
    }
}

#[tokio::test]
async fn a_400_body_contains_a_conforming_json_message() {
    let upstream = Upstream::start().await;
    let weir = Weir::in_front_of(&upstream).await;
    let case = Case::new(
        "400 response body should contain OCI-conforming JSON message",
        Method::PUT,
        manifest("sha256:totallywrong"),
        400,
    );
    let answer = case.run(&weir.client()).await;
    assert!(ERROR_CODES.contains(&&*answer.error_code()));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

/// What the suite cleans up with in a registry that it may write to: refused, as it accepts.
#[tokio::test]
async fn deleting_is_not_allowed() {
    let upstream = Upstream::start().await;
    let image = upstream.image(&format!("{REPOSITORY}:tagtest0"));
    let weir = Weir::in_front_of(&upstream).await;
    for (name, path) in [
        (
            "Delete manifest created in setup",
            manifest(image.manifest.digest),
        ),
        (
            "Delete config blob created in setup",
            blob(image.config.digest),
        ),
        (
            "Delete layer blob created in setup",
            blob(image.layers[0].digest),
        ),
    ] {
        Case::new(name, Method::DELETE, path, 405)
            .run(&weir.client())
            .await;
    }
}

fn tags(answer: &Answer) -> Vec<String> {
    let body: Value = serde_json::from_slice(answer.whole(200)).expect("JSON");
    assert_eq!(body["name"], REPOSITORY);
    let tags = body["tags"].as_array().expect("tags").iter();
    tags.map(|tag| tag.as_str().expect("a tag").to_owned())
        .collect()
}

#[tokio::test]
async fn the_listing_of_tags_passes() {
    let upstream = Upstream::start().await;
    let image = upstream.image(&format!("{REPOSITORY}:test0"));
    for number in 1..4 {
        upstream.push(&format!("{REPOSITORY}:test{number}"), &image);
    }
    let weir = Weir::in_front_of(&upstream).await;
    let get = async |name, query: &str| {
        let case = Case::new(name, Method::GET, path(&format!("tags/list{query}")), 200);
        tags(&case.run(&weir.client()).await)
    };
    for _cold_then_warm in 0..2 {
        let all = get("GET request to list tags should yield 200 response", "").await;
        assert_eq!(all, ["test0", "test1", "test2", "test3"]);
        let name = "GET number of tags should be limitable by `n` query parameter";
        let first = get(name, "?n=2").await;
        assert_eq!(first.len(), 2, "{name}");
        let name = "GET start of tag is set by `last` query parameter";
        let last = &first[1];
        let rest = get(name, &format!("?n=2&last={last}")).await;
        assert!(rest.len() <= 2 && !rest.contains(last), "{name}: {rest:?}");
        assert!(
            get(name, "?n=0").await.is_empty(),
            "{name}: none are asked for"
        );
    }
}

const ARTIFACT_A: &str = "application/vnd.nhl.peanut.butter.bagel";
const ARTIFACT_B: &str = "application/vnd.nba.strawberry.jam.croissant";
const ANNOTATION: &str = "org.opencontainers.conformance.test";

/// Something of `artifact_type` about `subject`, told apart by its annotation.
fn about(subject: &Manifest, artifact_type: &str, mark: &str) -> Manifest {
    content::annotated(subject, artifact_type, ANNOTATION, mark)
}

fn listed(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), Some(OCI_INDEX));
    let index: Value = serde_json::from_slice(answer.whole(200)).expect("JSON");
    assert_eq!(index["schemaVersion"], 2);
    index["manifests"].as_array().expect("manifests").clone()
}

#[tokio::test]
async fn the_listing_of_referrers_passes() {
    for served in [true, false] {
        let upstream = Upstream::with(|settings| settings.referrers = served).await;
        let subject = upstream.image(&format!("{REPOSITORY}:subject")).manifest;
        let absent = Manifest::new(OCI_MANIFEST, "{}");
        let to_absent = about(&absent, ARTIFACT_A, "c");
        let all = [
            about(&subject, ARTIFACT_A, "a1"),
            about(&subject, ARTIFACT_A, "a2"),
            about(&subject, ARTIFACT_B, "b1"),
            about(&subject, ARTIFACT_B, "b2"),
            about(&subject, ARTIFACT_B, "b3"),
        ];
        publish(&upstream, &subject, &all, served);
        publish(&upstream, &absent, std::slice::from_ref(&to_absent), served);
        let weir = Weir::in_front_of(&upstream).await;
        let get = async |name, what: String| {
            let case = Case::new(name, Method::GET, path(&format!("referrers/{what}")), 200);
            case.run(&weir.client()).await
        };
        for _cold_then_warm in 0..2 {
            let name = "GET request to nonexistent blob should result in empty 200 response";
            assert!(listed(&get(name, DUMMY_DIGEST.to_owned()).await).is_empty());
            let name = "GET request to existing blob should yield 200";
            let found = listed(&get(name, subject.digest.to_string()).await);
            assert_eq!(found.len(), 5, "{name}");
            for entry in found {
                let annotations = entry["annotations"].as_object().expect("annotations");
                assert_eq!(annotations.len(), 1, "{name}");
            }
            let name = "GET request to existing blob with filter should yield 200";
            let filtered = format!("{}?artifactType={ARTIFACT_A}", subject.digest);
            let answer = get(name, filtered).await;
            assert_eq!(answer.header("oci-filters-applied"), Some("artifactType"));
            assert_eq!(listed(&answer).len(), 2, "{name}");
            let name = "GET request to missing manifest should yield 200";
            let found = listed(&get(name, absent.digest.to_string()).await);
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0]["digest"], to_absent.digest.to_string(), "{name}");
        }
    }
}

/// Where the API is not served, clients that push keep the list under the fallback tag.
fn publish(upstream: &Upstream, subject: &Manifest, referrers: &[Manifest], served: bool) {
    for (number, referrer) in referrers.iter().enumerate() {
        let tag = format!("{REPOSITORY}:of-{}-{number}", &subject.digest.hex()[..8]);
        upstream.push_manifest(&tag, referrer);
    }
    if served {
        return;
    }
    let entry = |referrer: &Manifest| {
        let document: Value = serde_json::from_slice(&referrer.bytes).expect("JSON");
        json!({
            "mediaType": referrer.media_type,
            "digest": referrer.digest.to_string(),
            "size": referrer.bytes.len(),
            "artifactType": document["artifactType"],
            "annotations": document["annotations"],
        })
    };
    let entries: Vec<_> = referrers.iter().map(entry).collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    let index = Manifest::new(OCI_INDEX, index.to_string());
    let fallback = subject.digest.to_string().replace(':', "-");
    upstream.push_manifest(&format!("{REPOSITORY}:{fallback}"), &index);
}
