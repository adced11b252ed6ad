# shellcheck shell=bash
# The real clients, each set up by `weir setup`: pull, forget, the digest it holds, run, log in.
# IMAGE is a full name: docker.io/library/hello:1, private.test/team/app:1. Sourced by `run`.
#
# Their files lie where they lie everywhere, below /etc, which for the folders of clients is a folder
# of this run. With E2E_NEW_CLIENTS there are those of another Debian too: docker-cs (containerd's image
# store) and others that end in -new, in the folder that install-new.sh made. E2E_CLIENTS names the only
# ones that take part in the cases `pulls` and `matrix`.

NEW_ROOT=${E2E_NEW_CLIENTS:-}
CLIENTS=(docker containerd podman buildah skopeo)
[ -z "$NEW_ROOT" ] || CLIENTS+=(docker-cs containerd-new podman-new skopeo-new)
[ -z "${E2E_CLIENTS:-}" ] || read -ra CLIENTS <<<"$E2E_CLIENTS"

# What clients turn to when they give up on weir: answers 404 to everything, and remembers when.
GIVEN_UP=127.0.0.3

# clients_conf: a /etc of their own, in which nobody but weir's names and Docker Hub's mean anything.
clients_conf() {
  local folder
  mkdir -p "$STATE/etc" "$STATE/podman" "$STATE/buildah" "$STATE/docker-config"
  echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$STATE/conf/policy.json"
  printf '127.0.0.1 localhost weir.test\n%s docker.io index.docker.io registry-1.docker.io auth.docker.io\n' \
    "$GIVEN_UP" >"$STATE/etc/hosts"
  echo '{}' >"$STATE/auth.json"
  echo 'unqualified-search-registries = ["docker.io"]' >"$STATE/conf/registries.conf"
  for folder in docker containerd containers; do
    mkdir -p "$STATE/etc/$folder" "/etc/$folder"
    mount --bind "$STATE/etc/$folder" "/etc/$folder"
  done
  mount --bind "$STATE/etc/hosts" /etc/hosts
  cp "$STATE/conf/policy.json" "$STATE/conf/registries.conf" /etc/containers/
  export CONTAINERD_NAMESPACE=e2e DOCKER_CONFIG=$STATE/docker-config
  export CONTAINERD_ADDRESS=$STATE/run/containerd.sock DOCKER_HOST=unix://$STATE/run/docker.sock
  export PODMAN_IGNORE_CGROUPSV1_WARNING=1
  given_up_conf
  [ -z "$NEW_ROOT" ] || new_root_mounts
}

new_root_mounts() {
  local folder
  [ -x "$NEW_ROOT/usr/sbin/dockerd" ] || die "no clients in $NEW_ROOT: tests/e2e/install-new.sh $NEW_ROOT"
  # What runs containers wants / to be a mount.
  mount --bind "$NEW_ROOT" "$NEW_ROOT"
  for folder in /proc /sys /dev "$STATE" /etc/docker /etc/containerd /etc/containers; do
    mkdir -p "$NEW_ROOT$folder"
    mount --rbind "$folder" "$NEW_ROOT$folder"
  done
  touch "$NEW_ROOT/etc/hosts"
  mount --bind "$STATE/etc/hosts" "$NEW_ROOT/etc/hosts"
}

# Docker Hub's names have a certificate that clients believe, so that what they ask there is seen.
given_up_conf() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -subj /CN=docker.io -addext 'subjectAltName=DNS:docker.io,DNS:*.docker.io' \
    -keyout "$STATE/conf/hub.key" -out "$STATE/conf/hub.pem" >"$STATE/log/openssl" 2>&1
  cat /etc/ssl/certs/ca-certificates.crt "$STATE/conf/hub.pem" >"$STATE/conf/trusted.pem"
  export SSL_CERT_FILE=$STATE/conf/trusted.pem
}
given_up_up() {
  front given-up "listen $GIVEN_UP:443 ssl; ssl_certificate $STATE/conf/hub.pem;
    ssl_certificate_key $STATE/conf/hub.key; access_log $STATE/log/given-up-seen.log seconds;
    location / { return 404; }"
}

# ---- set up, as weir says ----

client_setup() { # client_setup [CLIENT-OF-WEIR-SETUP...]: installs what weir prints
  local client ca=()
  [ "$SCHEME" = http ] || ca=(--ca "$STATE/conf/weir-ca.pem")
  [ $# -gt 0 ] || set -- docker containerd podman
  for client in "$@"; do
    "$BINARY" --config "$STATE/conf/weir.toml" setup "$client" --address "$WEIR_HOST" "${ca[@]}" \
      --output / --force >"$STATE/log/setup-$client"
  done
}

daemons_up() { # with the files that are there now
  containerd_up containerd ''
  docker_up dockerd '' containerd
  [ -n "$NEW_ROOT" ] || return 0
  containerd_up containerd-new "chroot $NEW_ROOT"
  docker_cs_conf
  local trusted=$STATE/conf/trusted.pem
  # docker 26 with this store asks for tokens without looking into certs.d; `weir setup` says so.
  [ "$SCHEME" != https ] || [ "$ACCESS" = open ] || trusted=$STATE/conf/trusted-weir.pem
  cat "$STATE/conf/trusted.pem" "$STATE/conf/weir-ca.pem" >"$STATE/conf/trusted-weir.pem"
  docker_up docker-cs "env SSL_CERT_FILE=$trusted chroot $NEW_ROOT" containerd-new \
    --config-file "$STATE/conf/daemon-cs.json"
}
docker_cs_conf() { # what weir wants in this file, beside what its owner wants
  { cat /etc/docker/daemon.json 2>/dev/null || echo '{}'; } |
    jq '. + {"storage-driver": "overlayfs", features: {"containerd-snapshotter": true}}' \
      >"$STATE/conf/daemon-cs.json"
}
dockers_reload() { # dockers_reload: and waits until each knows its mirror
  local name
  [ -z "$NEW_ROOT" ] || docker_cs_conf
  for name in dockerd ${NEW_ROOT:+docker-cs}; do
    kill -HUP "$(pid_of "$name")"
    wait_for "$name" 10 docker_knows_weir "${name/dockerd/docker}"
  done
}
docker_knows_weir() { in_ "$1" docker info -f '{{.RegistryConfig.Mirrors}}' | grep -q "$WEIR_HOST"; }
daemons_down() { end docker-cs; end dockerd; end containerd-new; end containerd; }

containerd_up() { # containerd_up NAME PREFIX
  cat >"$STATE/conf/$1.toml" <<TOML
version = 2
root = "$STATE/$1"
state = "$STATE/run/$1"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$STATE/run/$1.sock"
TOML
  # shellcheck disable=SC2086
  spawn "$1" $2 containerd --config "$STATE/conf/$1.toml"
  wait_for "$1" 30 in_ "$1" ctr --connect-timeout 1s version
}
docker_up() { # docker_up NAME PREFIX CONTAINERD [OPTION...]
  local name=$1 prefix=$2 containerd=$3; shift 3
  # shellcheck disable=SC2086
  spawn "$name" $prefix dockerd --host "unix://$STATE/run/${name/dockerd/docker}.sock" \
    --containerd "$STATE/run/$containerd.sock" --pidfile "$STATE/run/$name-own" \
    --data-root "$STATE/$name" --exec-root "$STATE/run/$name-exec" \
    --iptables=false --ip6tables=false --bridge=none "$@"
  wait_for "$name" 30 in_ "${name/dockerd/docker}" docker version
}

clients_up() { # for the cases in which weir is open and speaks http
  SCHEME=http ACCESS=open
  [ -e "$STATE/conf/weir.toml" ] || weir_conf "$STATE/none"
  client_setup
  if ! alive containerd; then daemons_up; fi
}

# ---- where a client is, and what it calls an image ----

in_() { # in_ CLIENT COMMAND...
  local client=$1; shift
  # Not for everybody: docker-registry would take it for a part of its configuration.
  local -x REGISTRY_AUTH_FILE=$STATE/auth.json
  case $client in
    docker-cs | *-new)
      env CONTAINERD_ADDRESS="$STATE/run/containerd-new.sock" \
        DOCKER_HOST="unix://$STATE/run/docker-cs.sock" chroot "$NEW_ROOT" "$@" ;;
    *) "$@" ;;
  esac
}

podman_() { # podman_ CLIENT ...: with storage of its own
  local client=$1; shift
  in_ "$client" podman --root "$STATE/$client/root" --runroot "$STATE/$client/run" \
    --tmpdir "$STATE/$client/tmp" --storage-driver vfs --cgroup-manager cgroupfs \
    --runtime runc --events-backend none "$@"
}
buildah_() {
  in_ buildah buildah --root "$STATE/buildah/root" --runroot "$STATE/buildah/run" --storage-driver vfs "$@"
}

# docker has mirrors for docker.io only, and only where weir wants no login; what else there is, it asks
# for at weir by the registry's name.
docker_name() {
  case $ACCESS,$1 in
    open,docker.io/*) echo "$1" ;;
    *) echo "$WEIR_HOST/$1" ;;
  esac
}

# ---- what a client does ----

client_pull() { # client_pull CLIENT IMAGE
  case $1 in
    docker | docker-cs) in_ "$1" docker pull "$(docker_name "$2")" ;;
    containerd*) in_ "$1" ctr images pull --hosts-dir /etc/containerd/certs.d "$2" ;;
    podman*) podman_ "$1" pull "$2" ;;
    buildah) buildah_ pull "$2" ;;
    skopeo*) in_ "$1" skopeo copy --all --preserve-digests "docker://$2" "dir:$STATE/$1" ;;
  esac
}

client_login() { # client_login CLIENT USER PASSWORD: as `weir setup` says
  local plain=()
  [ "$SCHEME" = https ] || plain=(--tls-verify=false)
  case $1 in
    docker | docker-cs) in_ "$1" docker login -u "$2" --password-stdin "$WEIR_HOST" <<<"$3" ;;
    containerd*)
      client_setup containerd
      sed -i "s/BASE64/$(printf '%s' "$2:$3" | base64 -w0)/" /etc/containerd/certs.d/*/hosts.toml ;;
    podman*) podman_ "$1" login "${plain[@]}" -u "$2" --password-stdin "$WEIR_HOST" <<<"$3" ;;
    buildah | skopeo*) in_ "$1" "${1%-new}" login "${plain[@]}" -u "$2" --password-stdin "$WEIR_HOST" <<<"$3" ;;
  esac
}
client_logout() { # client_logout CLIENT
  case $1 in
    docker | docker-cs) in_ "$1" docker logout "$WEIR_HOST" ;;
    containerd*) sed -i '/header\]/d; /Authorization/d' /etc/containerd/certs.d/*/hosts.toml ;;
    *) echo '{}' >"$STATE/auth.json" ;;
  esac
}

# What was removed is gone when this returns. containerd's namespaces share their content, and one that
# is not collected yet is taken from the store by the next pull, whoever pulled it first.
containerd_collect() { # containerd_collect CLIENT
  in_ "$1" ctr leases rm --sync "$(in_ "$1" ctr leases create)" >/dev/null
}

client_purge() { # client_purge CLIENT: forget everything
  local ids it
  case $1 in
    docker | docker-cs)
      ids=$(in_ "$1" docker images -aq | sort -u)
      # shellcheck disable=SC2086
      [ -z "$ids" ] || in_ "$1" docker rmi -f $ids >/dev/null
      # The daemon leaves manifests behind in containerd.
      for it in $(in_ "$1" ctr -n moby content ls -q); do
        in_ "$1" ctr -n moby content rm "$it" >/dev/null 2>&1 || true
      done
      containerd_collect "$1" ;;
    containerd*)
      for it in $(in_ "$1" ctr images ls -q); do in_ "$1" ctr images rm --sync "$it" >/dev/null; done
      for it in $(in_ "$1" ctr leases ls -q); do in_ "$1" ctr leases rm "$it" >/dev/null; done
      for it in $(in_ "$1" ctr content ls -q); do in_ "$1" ctr content rm "$it" >/dev/null 2>&1 || true; done
      containerd_collect "$1" ;;
    podman*) podman_ "$1" rmi -af >/dev/null ;;
    buildah) buildah_ rmi -af >/dev/null ;;
    skopeo*) rm -rf "${STATE:?}/$1" ;;
  esac
}

client_digests() { # client_digests CLIENT IMAGE: what the client says it pulled, one digest a line
  case $1 in
    docker | docker-cs)
      in_ "$1" docker image inspect "$(docker_name "$2")" | jq -r '.[0].RepoDigests[]' | sed 's/.*@//' ;;
    containerd*) in_ "$1" ctr images ls "name==$2" | awk 'NR == 2 { print $3 }' ;;
    podman*) podman_ "$1" image inspect "$2" | jq -r '.[0].RepoDigests[]' | sed 's/.*@//' ;;
    buildah) buildah_ images --digests --format '{{.Digest}}' "$2" ;;
    skopeo*)
      echo "sha256:$(sha256sum <"$STATE/$1/manifest.json" | cut -d' ' -f1)"
      dir_right "$STATE/$1" || echo "and a file that does not match its name" ;;
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

client_runs() { [[ $1 =~ ^(docker|containerd|podman) ]]; } # client_runs CLIENT: whether it can

client_run() { # client_run CLIENT IMAGE: what the image prints
  case $1 in
    docker | docker-cs) in_ "$1" docker run --rm --network none "$(docker_name "$2")" ;;
    containerd*) in_ "$1" ctr run --rm "$2" "e2e-$RANDOM" ;;
    # Fewer files and processes than podman asks for: root of a sandbox may not have more of them.
    podman*) podman_ "$1" run --rm --network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 "$2" ;;
    *) return 1 ;;
  esac
}
