# shellcheck shell=bash
# Fifty clients ask for one cold layer of 64 MiB while the upstream gives 16 MiB/s: one leaves in the
# middle, one reads slowly, some come late. The upstream is asked for the layer once.

CROWD=50

proxy_fresh
layer=$(jq -r '.layers[0].digest' "$(image_manifest big)")
url=http://127.0.0.1:$WEIR/v2/slow.test/load/big
mkdir -p "$STATE/crowd"
mark
get_manifest "$url/manifests/1" || not_ok "crowd: the manifest" "no answer"

one() { # one N [CURL-OPTION...]: what it received, hashed as it comes
  local n=$1; shift
  curl -s --fail --max-time 120 "$@" "$url/blobs/$layer" 2>>"$STATE/log/crowd" | sha256sum |
    cut -d' ' -f1 >"$STATE/crowd/$n"
}

began_crowd=$(now)
crowd=()
for n in $(seq "$CROWD"); do
  case $n in
    7) curl -s "$url/blobs/$layer" 2>/dev/null | head -c 3000000 >"$STATE/crowd/left" & ;;
    9) one "$n" --limit-rate 10M & ;;
    # Ten come while the transfer is under way.
    [1-4]0 | [1-4]5 | 50 | 5) { sleep 1."$n"; one "$n"; } & ;;
    *) one "$n" & ;;
  esac
  crowd+=("$!")
done
wait "${crowd[@]}" || true
say "$CROWD clients, the last one done after $(since "$began_crowd") s;" \
  "the upstream saw $(asked slow GET blobs) GET of the layer"

whole=0
for n in $(seq "$CROWD"); do
  [ "$n" = 7 ] || [ "sha256:$(cat "$STATE/crowd/$n" 2>/dev/null)" != "$layer" ] || whole=$((whole + 1))
done
same "crowd: clients with the whole layer, byte for byte" $((CROWD - 1)) "$whole"
same "crowd: the one that left had begun" 3000000 "$(stat -c %s "$STATE/crowd/left")"
same "crowd: blob GETs upstream" 1 "$(asked slow GET blobs)"
check "crowd: the cache holds what its names say" blobs_right
rm -rf "$STATE/crowd"
