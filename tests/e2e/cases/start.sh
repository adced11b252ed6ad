# shellcheck shell=bash
# Starting: how soon it serves, and what is said when it can't. A start that fails says why in one
# line and ends with 1; a wrong configuration is told problem by problem and ends with 2.

# refused NAME STATUS PATTERN CONFIG: serving with this configuration ends so, saying that
refused() {
  local status=0
  timeout 10 "$BINARY" --config "$4" --log-format text serve >"$STATE/said" 2>&1 || status=$?
  same "start: $1: exit status" "$2" "$status"
  if grep -qiE "$3" "$STATE/said"; then ok "start: $1: message"; else
    not_ok "start: $1: message" "$(cat "$STATE/said")"
  fi
  say "$1: exit $status: $(grep -iE "$3" "$STATE/said" | head -n 1 | sed "s#$STATE##g")"
}
variant() { # variant NAME SED-EXPRESSION: the configuration, changed
  sed "$2" "$STATE/conf/weir.toml" >"$STATE/conf/$1.toml"
  echo "$STATE/conf/$1.toml"
}

proxy_fresh
proxy_down TERM
start=$(now)
spawn weir "$BINARY" --config "$STATE/conf/weir.toml" serve
for _ in $(seq 1000); do curl -sf -o /dev/null "http://127.0.0.1:$ADMIN/readyz" && break; done
say "ready $(awk "BEGIN { printf \"%d\", ($(now) - $start) * 1000 }") ms after the start of the process"
check "start: weir check" quiet "$BINARY" --config "$STATE/conf/weir.toml" check

other=$(free_ports 2)
ports="s/:$WEIR\"/:${other% *}\"/; s/:$ADMIN\"/:${other#* }\"/"
mkdir -p "$STATE/readonly"
mount --bind "$STATE/readonly" "$STATE/readonly"
mount -o remount,bind,ro "$STATE/readonly"

refused "a busy port" 1 "127\.0\.0\.1:$WEIR.*(in use|busy)" "$(variant busy "s#$CACHE#$STATE/elsewhere#")"
refused "a cache directory in use" 1 "$CACHE.*(in use|another|already)" "$(variant in-use "$ports")"
refused "a read-only file system" 1 "$STATE/readonly.*(read-only|written|writable|denied)" \
  "$(variant readonly "$ports; s#$CACHE#$STATE/readonly/cache#")"
refused "a file where the directory should be" 1 "$STATE/conf/weir.toml" \
  "$(variant file "$ports; s#$CACHE#$STATE/conf/weir.toml/cache#")"
refused "a misspelt key" 2 "fresh_for" "$(variant key "s/fresh_for/fresh_form/")"
refused "a value that is none" 2 "drain_timeout" "$(variant value 's/"30s"/"soon"/')"
refused "no such file" 2 "$STATE/conf/nowhere.toml" "$STATE/conf/nowhere.toml"

umount "$STATE/readonly"
