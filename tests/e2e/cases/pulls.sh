# shellcheck shell=bash
# Each client pulls each image, cold (nothing cached) and warm (weir has it, the client does not).

row() { printf '%-10s  %-27s  %-4s  %-6s  %6s  %s\n' "$@"; }

pull() { # pull CLIENT IMAGE UPSTREAM FOLDER cold|warm
  local client=$1 image=$2 upstream=$3 digest start seconds outcome=ok name="$1 $2 $5"
  digest=$(digest_of "$4")
  client_purge "$client"
  mark
  start=$(now)
  if client_pull "$client" "$image" >"$STATE/log/pull" 2>&1; then
    ok "$name"
  else
    outcome=FAILED
    not_ok "$name" "$(tail -n 3 "$STATE/log/pull")"
  fi
  seconds=$(since "$start")
  if [ "$outcome" = ok ]; then
    if client_holds "$client" "$image" "$digest"; then ok "$name: digest"; else
      outcome=WRONG
      not_ok "$name: digest" "wanted $digest, found $(client_digests "$client" "$image" | tr '\n' ' ')"
    fi
  fi
  row "$client" "$image" "$5" "$outcome" "$seconds" "$(upstream_saw "$upstream")"
  same "$name: blobs fetched twice" "" "$(fetched_twice "$upstream")"
  if [ "$5" = warm ]; then
    same "$name: blob GETs upstream" 0 "$(asked "$upstream" GET blobs)"
    same "$name: manifest GETs upstream" 0 "$(asked "$upstream" GET manifests)"
    at_most "$name: manifest HEADs upstream" 1 "$(asked "$upstream" HEAD manifests)"
  fi
}

runs() { # runs CLIENT IMAGE WHAT-IT-PRINTS
  local found
  found=$(client_run "$1" "$2" 2>&1) || true
  same "$1 runs $2" "$3" "$found"
}

clients_up
row client image cache result seconds "what the upstream saw"
machine=$(dpkg --print-architecture)
for client in "${CLIENTS[@]}"; do
  proxy_fresh
  for spec in "docker.io/library/hello:1 hub hello" "docker.io/library/classic:1 hub classic" \
    "docker.io/acme/secret:1 hub secret" "private.test/team/app:1 private app"; do
    read -r image upstream folder <<<"$spec"
    pull "$client" "$image" "$upstream" "$folder" cold
    pull "$client" "$image" "$upstream" "$folder" warm
  done
  if client_runs "$client"; then
    client_purge "$client"
    for spec in "docker.io/library/hello:1 hello $machine" "docker.io/library/classic:1 classic"; do
      read -r image prints <<<"$spec"
      client_pull "$client" "$image" >/dev/null 2>&1 || true
      runs "$client" "$image" "this is $prints"
    done
  fi
  if [ "$client" = docker ]; then
    # As a registry of its own.
    for image in library/classic:1 docker.io/library/classic:1; do
      check "docker asks weir by its address for $image" quiet docker pull "$WEIR_HOST/$image"
    done
  fi
  check "blobs after $client" blobs_right
  client_purge "$client"
done
