#!/usr/bin/env bash
# Clients of Debian trixie in a folder, for E2E_NEW_CLIENTS: docker 26 (with containerd's image store),
# containerd 1.7, podman 5, skopeo 1.18. Does nothing when the folder is complete.
#
# usage: tests/e2e/install-new.sh FOLDER
set -euo pipefail
folder=${1:?usage: install-new.sh FOLDER}

[ ! -e "$folder/.complete" ] || exit 0
dpkg-query -W -f='${Status}' mmdebstrap 2>/dev/null | grep -q 'ok installed' || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
}
# The mirror that this machine's own apt uses.
site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1)
[ -n "$site" ] || { echo "apt knows no Debian mirror: run apt-get update" >&2; exit 1; }
mmdebstrap --quiet --mode=root --variant=minbase --aptopt='APT::Install-Recommends "false"' \
  --include=docker.io,docker-cli,containerd,podman,skopeo,runc,crun,netavark,iptables,ca-certificates \
  trixie "$folder" "$site"
touch "$folder/.complete"
