#!/usr/bin/env bash
# Installs what the end-to-end tests use, from Debian's packages. Does nothing when all is there.
set -euo pipefail

packages=(
  docker-registry nginx-light                        # upstreams
  docker.io containerd skopeo podman buildah         # clients
  runc iptables uidmap                               # what they need to unpack and run
  busybox-static                                     # what the images hold
  apache2-utils curl jq openssl iproute2 util-linux  # htpasswd, and tools of the scripts
  python3 python3-jwt python3-cryptography           # the token service
  python3-yaml                                       # to read what is printed for k3s
  prometheus                                         # promtool
)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed$' ||
    missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0
echo "installing ${missing[*]}"

# The packages' own services must not start: the tests start what they need, on their own ports.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
