# shellcheck shell=bash
# The real clients, each set up as README.md says: pull, forget, the digest it holds, run.
# IMAGE is a full name: docker.io/library/hello:1, private.test/team/app:1. Sourced by `run`.

# shellcheck disable=SC2034
CLIENTS=(docker containerd podman skopeo)

clients_conf() {
  mkdir -p "$STATE/certs.d/_default" "$STATE/podman" "$STATE/docker-config"
  echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$STATE/conf/policy.json"

  echo '{}' >"$STATE/docker-config/config.json"

  # docker knows mirrors for docker.io only.
  cat >"$STATE/conf/daemon.json" <<JSON
{"registry-mirrors": ["http://127.0.0.1:$WEIR"]}
JSON
  # containerd asks the mirror for every registry, and says which by ?ns=.
  cat >"$STATE/certs.d/_default/hosts.toml" <<TOML
[host."http://127.0.0.1:$WEIR"]
  capabilities = ["pull", "resolve"]
TOML
  # podman and skopeo put the registry's name before the repository.
  cat >"$STATE/conf/registries.conf" <<CONF
unqualified-search-registries = ["docker.io"]
short-name-mode = "disabled"
$(for name in docker.io private.test slow.test; do
    printf '[[registry]]\nlocation = "%s"\n[[registry.mirror]]\n' "$name"
    printf 'location = "127.0.0.1:%s/%s"\ninsecure = true\n' "$WEIR" "$name"
  done)
CONF
  export CONTAINERS_REGISTRIES_CONF=$STATE/conf/registries.conf
  export CONTAINERD_ADDRESS=$STATE/run/containerd.sock CONTAINERD_NAMESPACE=e2e
  export DOCKER_HOST=unix://$STATE/run/docker.sock DOCKER_CONFIG=$STATE/docker-config
  export PODMAN_IGNORE_CGROUPSV1_WARNING=1
}

clients_up() {
  cat >"$STATE/conf/containerd.toml" <<TOML
version = 2
root = "$STATE/containerd"
state = "$STATE/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$CONTAINERD_ADDRESS"
TOML
  spawn containerd containerd --config "$STATE/conf/containerd.toml"
  wait_for containerd 30 ctr --connect-timeout 1s version
  spawn dockerd dockerd --host "$DOCKER_HOST" --containerd "$CONTAINERD_ADDRESS" \
    --config-file "$STATE/conf/daemon.json" --pidfile "$STATE/run/dockerd-own" \
    --data-root "$STATE/docker" --exec-root "$STATE/run/docker" \
    --iptables=false --ip6tables=false --bridge=none
  wait_for dockerd 30 docker version
}

podman_() { # podman with storage of its own
  podman --root "$STATE/podman/root" --runroot "$STATE/podman/run" --tmpdir "$STATE/podman/tmp" \
    --storage-driver vfs --cgroup-manager cgroupfs --runtime runc --events-backend none "$@"
}

# What docker calls the image: it has no mirrors but for docker.io, so others are asked for at the
# proxy by their prefix.
docker_name() {
  case $1 in docker.io/*) echo "$1" ;; *) echo "127.0.0.1:$WEIR/$1" ;; esac
}

client_pull() { # client_pull CLIENT IMAGE
  case $1 in
    docker) docker pull "$(docker_name "$2")" ;;
    containerd) ctr images pull --hosts-dir "$STATE/certs.d" "$2" ;;
    podman) podman_ pull --signature-policy "$STATE/conf/policy.json" "$2" ;;
    skopeo)
      skopeo --registries-conf "$STATE/conf/registries.conf" --policy "$STATE/conf/policy.json" \
        copy --all --preserve-digests "docker://$2" "dir:$STATE/skopeo" ;;
  esac
}

# What was removed is gone when this returns. containerd's namespaces share their content, and one that
# is not collected yet is taken from the store by the next pull, whoever pulled it first.
containerd_collect() {
  ctr leases rm --sync "$(ctr leases create)" >/dev/null
}

client_purge() { # client_purge CLIENT: forget everything
  local ids it
  case $1 in
    docker)
      ids=$(docker images -aq | sort -u)
      # shellcheck disable=SC2086
      [ -z "$ids" ] || docker rmi -f $ids >/dev/null
      # The daemon leaves manifests behind in containerd.
      for it in $(ctr -n moby content ls -q); do ctr -n moby content rm "$it" >/dev/null || true; done
      containerd_collect ;;
    containerd)
      for it in $(ctr images ls -q); do ctr images rm --sync "$it" >/dev/null; done
      for it in $(ctr leases ls -q); do ctr leases rm "$it" >/dev/null; done
      for it in $(ctr content ls -q); do ctr content rm "$it" >/dev/null || true; done
      containerd_collect ;;
    podman) podman_ rmi -af >/dev/null ;;
    skopeo) rm -rf "$STATE/skopeo" ;;
  esac
}

client_digests() { # client_digests CLIENT IMAGE: what the client says it pulled, one digest a line
  case $1 in
    docker) docker image inspect "$(docker_name "$2")" | jq -r '.[0].RepoDigests[]' | sed 's/.*@//' ;;
    containerd) ctr images ls "name==$2" | awk 'NR == 2 { print $3 }' ;;
    podman) podman_ image inspect "$2" | jq -r '.[0].RepoDigests[]' | sed 's/.*@//' ;;
    skopeo)
      echo "sha256:$(sha256sum <"$STATE/skopeo/manifest.json" | cut -d' ' -f1)"
      dir_right "$STATE/skopeo" || echo "and a file that does not match its name" ;;
  esac
}

client_holds() { # client_holds CLIENT IMAGE DIGEST: what it pulled is that, and nothing else is wrong
  local digests
  digests=$(client_digests "$1" "$2")
  [[ "$digests" =~ ^(sha256:[0-9a-f]{64}.?)+$ ]] && grep -qx "$3" <<<"$digests"
}

dir_right() { # every blob of a `dir:` matches its name; skopeo checks too, we check skopeo
  local file
  for file in "$1"/*; do
    case $(basename "$file") in
      version | manifest.json | *.manifest.json) ;;
      *) [ "$(sha256sum <"$file" | cut -d' ' -f1)" = "$(basename "$file")" ] || return 1 ;;
    esac
  done
}

client_run() { # client_run CLIENT IMAGE: what the image prints
  case $1 in
    docker) docker run --rm --network none "$(docker_name "$2")" ;;
    containerd) ctr run --rm "$2" "e2e-$RANDOM" ;;
    *) return 1 ;;
  esac
}
