# shellcheck shell=bash
# Every upstream is gone: what is cached is pulled all the same, what is not fails quickly. And a
# weir that starts meanwhile is up without them. A SIGTERM lets a transfer under way finish.

url=http://127.0.0.1:$WEIR/v2/slow.test/load/big
proxy_fresh
client_purge skopeo
client_pull skopeo docker.io/library/hello:1 >/dev/null 2>&1 || not_ok "away: first pull" "failed"
end hub; end token; end private; end nginx; end slow

away_pull() { # away_pull WHEN
  client_purge skopeo
  local start; start=$(now)
  if client_pull skopeo docker.io/library/hello:1 >"$STATE/log/pull" 2>&1 &&
    client_holds skopeo docker.io/library/hello:1 "$(digest_of hello)"; then
    ok "away: a cached image, $1"
    say "a cached image, $1: pulled in $(since "$start") s"
  else
    not_ok "away: a cached image, $1" "$(tail -n 3 "$STATE/log/pull")"
  fi
}
away_pull "upstreams gone"
same "away: an image that is not cached" 502 \
  "$(curl -s -o /dev/null --max-time 6 -w '%{http_code}' "${url%/slow.test/*}/library/classic/manifests/1")"
proxy_down TERM
proxy_up "$CACHE"
away_pull "after a restart without upstreams"
origins_up

proxy_fresh
layer=$(jq -r '.layers[0].digest' "$(image_manifest big)")
get_manifest "$url/manifests/1" || not_ok "drain: the manifest" "no answer"
curl -s --fail "$url/blobs/$layer" | sha256sum | cut -d' ' -f1 >"$STATE/drained" &
client=$!
wait_for weir 30 sh -c "find '$CACHE/staging' -type f -size +4M | grep -q ."
draining=$(pid_of weir)
kill -TERM "$draining"
wait "$client" || true
same "drain: a transfer under way at SIGTERM" "$layer" "sha256:$(cat "$STATE/drained")"
status=0; wait "$draining" || status=$?
same "drain: exit status" 0 "$status"
rm -f "$STATE/run/weir.pid"
say "SIGTERM during a transfer: the client has its layer, weir ended with status $status"
