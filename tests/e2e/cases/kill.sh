# shellcheck shell=bash
# kill -9 in the middle of a fill, at three depths: after a restart on the same directory nothing
# wrong stands under blobs/, and the pull works.

proxy_fresh
layer=$(jq -r '.layers[0].digest' "$(image_manifest big)")
size=$(jq -r '.layers[0].size' "$(image_manifest big)")
url=http://127.0.0.1:$WEIR/v2/slow.test/load/big

staged() { # bytes of the file that grows
  find "$CACHE/staging" -type f -printf '%s\n' 2>/dev/null | sort -n | tail -n 1
}
staged_past() { local n; n=$(staged); [ "${n:-0}" -ge "$1" ]; }

for part in 10 40 70; do
  proxy_fresh
  mark
  get_manifest "$url/manifests/1" || not_ok "kill at $part %: the manifest" "no answer"
  curl -s -o /dev/null "$url/blobs/$layer" &
  client=$!
  wait_for weir 30 staged_past $((size * part / 100))
  at=$(staged)
  proxy_down KILL
  wait "$client" && not_ok "kill at $part %: the client" "took a cut body for a whole one"
  check "kill at $part %: blobs/ before the restart" blobs_right
  before=$BLOBS
  proxy_up "$CACHE"
  check "kill at $part %: blobs/ after the restart" blobs_right
  mark
  found=$(curl -s --fail "$url/blobs/$layer" | sha256sum | cut -d' ' -f1)
  same "kill at $part %: the layer afterwards" "$layer" "sha256:$found"
  check "kill at $part %: the layer is kept" within 10 test -e "$CACHE/blobs/${layer/://}"
  check "kill at $part %: blobs/ at the end" blobs_right
  at_most "kill at $part %: bytes the upstream sent again" $((size - at + (2 << 20))) "$(sent slow)"
  say "killed at $(mib "$at") of $(mib "$size") MiB; blobs/ held $before right files, $BLOBS in the" \
    "end; the upstream then sent $(mib "$(sent slow)") MiB more"
done
if client_pull skopeo slow.test/load/big:1 >"$STATE/log/pull" 2>&1; then
  check "kill: skopeo pulls the image" client_holds skopeo slow.test/load/big:1 "$(digest_of big)"
else
  not_ok "kill: skopeo pulls the image" "$(tail -n 3 "$STATE/log/pull")"
fi
client_purge skopeo
