# shellcheck shell=bash
# Every client with what may happen to a pull: cold, warm, upstream away, pulls used up, with and
# without the right, over http and https, and what it pulled run. A table at the end.

CACHED=docker.io/library/classic:1 UNCACHED=docker.io/library/hello:1 PRIVATE_IMAGE=docker.io/acme/secret:1
rows=()

hub_front() { # hub_front open|used-up: the hub as weir asks it
  local gets=''
  # Docker Hub counts GETs of manifests, and refuses these.
  [ "$1" = open ] || gets="location ~ /manifests/ {
      add_header ratelimit-limit '100;w=21600' always;
      add_header ratelimit-remaining '0;w=21600' always;
      if (\$request_method = GET) { return 429; }
      proxy_pass http://127.0.0.1:$HUB;
    }"
  front front "listen 127.0.0.1:$HUB_FRONT; access_log $STATE/log/front.log;
    $gets location / { proxy_pass http://127.0.0.1:$HUB; }"
}

# try CASE IMAGE FOLDER: pulls with an empty client, which holds the image then; outcome, how long it
# took, the last status of weir to a manifest, when the client turned to Docker Hub itself.
try() {
  local start image=$2
  client_purge "$client"
  mark
  start=$(now)
  outcome=refused
  if client_pull "$client" "$image" >"$STATE/log/pull" 2>&1; then outcome=pulled; fi
  seconds=$(since "$start")
  if [ "$outcome" = pulled ] && ! client_holds "$client" "$image" "$(digest_of "$3")"; then outcome=WRONG; fi
  said=$(since_mark weir | jq -rR 'fromjson? | select(.kind == "manifest") | .status' | tail -n 1)
  turned=$(since_mark given-up-seen | awk -v start="$start" 'NR == 1 { printf "%.2f", $1 - start }')
  saw=$(upstream_saw front)
  name="$client $SCHEME $1"
  add_row "$1" "$outcome${turned:+, asked Docker Hub after $turned s}" "$seconds" "${said:--}" "$saw"
}
add_row() { # add_row CASE OUTCOME SECONDS STATUS UPSTREAM
  rows+=("| $client | $SCHEME | $1 | $2 | $3 | $4 | $5 |")
  say "$(printf '%-14s %-5s  %-26s  %-40s  %6s  %-3s  %s' "$client" "$SCHEME" "$@")"
}
# wanted OUTCOME [STATUS]: what the last try should have come to
wanted() {
  if [ "$outcome" = "$1" ]; then ok "$name"; else not_ok "$name" "$outcome: $(tail -n 3 "$STATE/log/pull")"; fi
  [ -z "${2:-}" ] || same "$name: status" "$2" "$said"
}
upstream_was_asked() { # upstream_was_asked GET-MANIFESTS GET-BLOBS TOKENS
  same "$name: manifest GETs upstream" "$1" "$(asked front GET manifests)"
  same "$name: blob GETs upstream" "$2" "$(asked front GET blobs)"
  at_most "$name: tokens" "$3" "$(tokens_asked)"
  same "$name: blobs fetched twice" "" "$(fetched_twice front)"
}
# What a client is told when weir has not got it: podman and its kin would sit on a 429.
used_up_status() {
  case $client in docker* | containerd*) echo 429 ;; *) echo 503 ;; esac
}

pulls_of_one() {
  hub_front open
  proxy_fresh
  try cold "$CACHED" classic; wanted pulled; upstream_was_asked 1 3 1
  try warm "$CACHED" classic; wanted pulled; upstream_was_asked 0 0 0
  at_most "$name: manifest HEADs upstream" 1 "$(asked front HEAD manifests)"
  if client_runs "$client"; then
    local start; start=$(now)
    found=$(client_run "$client" "$CACHED" 2>&1) || true
    same "$client $SCHEME run" "this is classic" "$found"
    add_row run "$(tail -n 1 <<<"$found" | cut -c1-60)" "$(since "$start")" - -
  fi
  hub_front used-up
  try "used up, cached" "$CACHED" classic; wanted pulled; upstream_was_asked 0 0 0
  try "used up, not cached" "$UNCACHED" hello; wanted refused "$(used_up_status)"
  same "$name: blob GETs upstream" 0 "$(asked front GET blobs)"
  check "$name: the client goes to Docker Hub itself" test -n "$turned"
  proxy_down TERM
  end front
  # shellcheck disable=SC2153
  proxy_up "$CACHE"
  try "away, cached" "$CACHED" classic; wanted pulled; upstream_was_asked 0 0 0
  try "away, not cached" "$UNCACHED" hello; wanted refused 502; upstream_was_asked 0 0 1
  check "$name: the client goes to Docker Hub itself" test -n "$turned"
}

# Where weir asks who is there.
rights_of_one() {
  hub_front open
  proxy_fresh
  client_login "$client" ci "$CI" >"$STATE/log/login" 2>&1 || not_ok "$client $SCHEME login" "$(cat "$STATE/log/login")"
  try "private, with the right" "$PRIVATE_IMAGE" secret; wanted pulled; upstream_was_asked 1 3 1
  client_login "$client" guest "$GUEST" >"$STATE/log/login" 2>&1 || not_ok "$client $SCHEME login" "$(cat "$STATE/log/login")"
  try "private, without the right" "$PRIVATE_IMAGE" secret; wanted refused 403; upstream_was_asked 0 0 0
  try "public, with a login" "$CACHED" classic; wanted pulled; upstream_was_asked 1 3 1
  client_logout "$client" >/dev/null 2>&1
  try "private, without a login" "$PRIVATE_IMAGE" secret; wanted refused; upstream_was_asked 0 0 0
}

# Where each client's own login counts, auth = "client": what alice pulled is given to carol, whom the
# registry refuses it, no more than it would be there; and to alice again for the price of HEADs.
own_rights_of_one() {
  hub_front open
  proxy_fresh
  client_login "$client" alice alice-secret >"$STATE/log/login" 2>&1 || not_ok "$client $SCHEME login" "$(cat "$STATE/log/login")"
  try "own login, with the right" "$PRIVATE_IMAGE" secret; wanted pulled; upstream_was_asked 1 3 1
  try "own login, cached" "$PRIVATE_IMAGE" secret; wanted pulled; upstream_was_asked 0 0 0
  client_login "$client" carol carol-secret >"$STATE/log/login" 2>&1 || not_ok "$client $SCHEME login" "$(cat "$STATE/log/login")"
  try "own login, without the right" "$PRIVATE_IMAGE" secret; wanted refused 403
  same "$name: manifest GETs upstream" 0 "$(asked front GET manifests)"
  try "own login, public image" "$CACHED" classic; wanted pulled; upstream_was_asked 1 3 1
  client_logout "$client" >/dev/null 2>&1
  try "no login, private image" "$PRIVATE_IMAGE" secret; wanted refused
  same "$name: manifest GETs upstream" 0 "$(asked front GET manifests)"
}

given_up_up
HUB_ENDPOINT=$HUB_FRONT
for SCHEME in http https; do
  for ACCESS in open login client; do
    proxy_down TERM
    weir_conf "$STATE/none"
    daemons_down
    rm -f /etc/docker/daemon.json
    [ "$ACCESS" = open ] || client_setup
    daemons_up
    client_setup
    # docker is told as `weir setup` says; the others read their files with every pull.
    [ "$ACCESS" != open ] || dockers_reload
    for client in "${CLIENTS[@]}"; do
      case $ACCESS in
        open) pulls_of_one ;;
        login) rights_of_one ;;
        client) own_rights_of_one ;;
      esac
      client_purge "$client"
    done
  done
done

# CRI-O, BuildKit and k3s are not in Debian: what is printed for them is at least what they could read.
check "setup of crio, buildkit, k3s, and containerd's own configuration" \
  "$E2E/setup_files.py" "$BINARY" "$STATE/conf/weir.toml" "$WEIR_HOST" "$STATE/conf/weir-ca.pem"

{
  echo "| client | scheme | case | outcome | seconds | weir's last status to a manifest | what the upstream saw |"
  echo "|---|---|---|---|---|---|---|"
  printf '%s\n' "${rows[@]}"
} >"$TABLE"
say "" && cat "$TABLE"
[ -n "$NEW_ROOT" ] || say "SKIPPED: docker with containerd's image store and newer clients: no E2E_NEW_CLIENTS"

end front; end given-up
daemons_down
proxy_down TERM
# shellcheck disable=SC2034
SCHEME=http ACCESS=open HUB_ENDPOINT=$HUB
