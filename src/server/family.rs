//! Which kind of client is asking, where an answer depends on it.

/// Clients that treat a status alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// podman, CRI-O, skopeo and buildah: they wait half a minute on a 429, and turn to the next
    /// source at once on a 503.
    ContainersImage,
    /// docker, containerd, BuildKit and everything else: a 429 shows its message and they go on.
    Other,
}

/// How the programs of the first family begin a product in their `User-Agent`.
const CONTAINERS_IMAGE: [&str; 6] = [
    "containers/",
    "libpod/",
    "podman/",
    "skopeo/",
    "buildah/",
    "cri-o/",
];

impl Family {
    pub(super) fn of(user_agent: Option<&str>) -> Family {
        let products = user_agent.into_iter().flat_map(str::split_whitespace);
        let is_first = |product: &str| {
            let product = product.to_ascii_lowercase();
            CONTAINERS_IMAGE
                .iter()
                .any(|prefix| product.starts_with(prefix))
        };
        if products.into_iter().any(is_first) {
            Family::ContainersImage
        } else {
            Family::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_user_agents_are_told_apart() {
        for agent in [
            "containers/5.34.2 (github.com/containers/image)",
            "libpod/4.3.1",
            "skopeo/1.18.0",
            "Buildah/1.28.2",
            "cri-o/1.30.1 go/go1.22 os/linux arch/amd64",
        ] {
            assert_eq!(Family::of(Some(agent)), Family::ContainersImage, "{agent}");
        }
        for agent in [
            "docker/26.1.5 go/go1.22 git-commit/411e817 kernel/6.1 os/linux arch/amd64 \
             UpstreamClient(Docker-Client/26.1.5 \\(linux\\))",
            "containerd/1.7.24",
            "containerd/2.0.0+unknown",
            "buildkit/v0.13",
            "Go-http-client/1.1",
            "curl/7.88.1",
            "",
        ] {
            assert_eq!(Family::of(Some(agent)), Family::Other, "{agent}");
        }
        assert_eq!(Family::of(None), Family::Other);
    }
}
