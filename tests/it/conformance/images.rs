//! Images that few people have and every registry has to keep: the ones that the later conformance
//! suite (`conformance/run.go`) makes, by the names they have there.

use serde_json::{Value, json};
use weir::oci::{Algorithm, Digest};

use super::{DUMMY_DIGEST, OCI_INDEX, OCI_MANIFEST, REPOSITORY, blob, manifest};
use crate::support::{Content, Manifest, Upstream, Weir};

fn odd_manifests() -> Vec<(&'static str, Manifest)> {
    let config = json!({
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": Content::of("{}").digest.to_string(),
        "size": 2,
    });
    let image = |more: Value| {
        let mut document = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config,
            "layers": [],
        });
        for (key, value) in more.as_object().expect("an object") {
            document[key] = value.clone();
        }
        Manifest::new(OCI_MANIFEST, document.to_string())
    };
    let index = |manifests: Value| {
        let document = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
        Manifest::new(OCI_INDEX, document.to_string())
    };
    let annotations: serde_json::Map<String, Value> = (0..390)
        .map(|number| {
            (
                format!("large-annotation-{number}"),
                "A".repeat(10_000).into(),
            )
        })
        .collect();
    let elsewhere = json!([{
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": DUMMY_DIGEST,
        "size": 123_456,
        "urls": ["https://store.example.com/blobs/x"],
    }]);
    let inner = index(json!([]));
    let nested = json!([{
        "mediaType": OCI_INDEX,
        "digest": inner.digest.to_string(),
        "size": inner.bytes.len(),
    }]);
    let with_data = json!({"config": {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": Content::of("{}").digest.to_string(),
        "size": 2,
        "data": "e30=",
    }});
    vec![
        ("large-manifest", image(json!({"annotations": annotations}))),
        ("empty-index", inner),
        ("nested-index", index(nested)),
        ("no-layers", image(json!({}))),
        ("data-field", image(with_data)),
        (
            "custom-fields",
            image(json!({"org.example.custom": {"a": [1, null, "ü"]}})),
        ),
        (
            "non-distributable-layers",
            image(json!({"layers": elsewhere})),
        ),
    ]
}

#[tokio::test]
async fn the_odd_images_of_the_suite_come_byte_for_byte() {
    let upstream = Upstream::start().await;
    let weir = Weir::in_front_of(&upstream).await;
    for (name, odd) in odd_manifests() {
        upstream.push_manifest(&format!("{REPOSITORY}:{name}"), &odd);
        for reference in [name.to_owned(), odd.digest.to_string()] {
            for _cold_then_warm in 0..2 {
                let answer = weir.client().get(&manifest(&reference)).await;
                assert_eq!(answer.whole(200), &odd.bytes, "{name}");
                assert_eq!(
                    answer.header("content-type"),
                    Some(&*odd.media_type),
                    "{name}"
                );
                let head = weir.client().head(&manifest(&reference)).await;
                assert_eq!(head.length_header(), Some(odd.bytes.len()), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn content_by_sha512_comes() {
    let upstream = Upstream::start().await;
    let layer = Content::named_by(Algorithm::Sha512, "a layer by sha512");
    upstream.put_blob(REPOSITORY, &layer);
    let mut by_sha512 = Manifest::new(OCI_MANIFEST, {
        let descriptor = json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer.digest.to_string(),
            "size": layer.length(),
        });
        json!({"schemaVersion": 2, "config": descriptor, "layers": [descriptor]}).to_string()
    });
    by_sha512.digest = Digest::of(Algorithm::Sha512, &by_sha512.bytes);
    upstream.push_manifest(&format!("{REPOSITORY}:sha512"), &by_sha512);
    let weir = Weir::in_front_of(&upstream).await;
    for _cold_then_warm in 0..2 {
        for reference in ["sha512".to_owned(), by_sha512.digest.to_string()] {
            let answer = weir.client().get(&manifest(&reference)).await;
            assert_eq!(answer.whole(200), &by_sha512.bytes);
            let told = answer.header("docker-content-digest").map(str::to_owned);
            assert_eq!(told, Some(by_sha512.digest.to_string()));
        }
        let answer = weir.client().get(&blob(layer.digest)).await;
        assert_eq!(answer.whole(200), &layer.bytes);
    }
}
