# shellcheck shell=bash
# Processes, ports and results for the end-to-end tests. Sourced by `run`; defines names only.
# $STATE is the folder that holds everything a run makes.

say() { printf '%s\n' "$*"; }
die() { printf 'e2e: %s\n' "$*" >&2; exit 1; }
now() { date +%s.%N; }
since() { awk "BEGIN { printf \"%.2f\", $(now) - $1 }"; }

# free_ports N: so many ports that nobody listens on, all different.
free_ports() {
  python3 - "$1" <<'PY'
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in held:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in held))
PY
}

# ---- processes: started here, ended here by their id ----

# The start time beside the id, so that an id that was given to a stranger is never signalled.
started_at() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

spawn() { # spawn NAME COMMAND...: in the background, output to log/NAME.log
  local name=$1; shift
  "$@" >>"$STATE/log/$name.log" 2>&1 </dev/null &
  echo "$! $(started_at $!)" >"$STATE/run/$name.pid"
}

pid_of() { cut -d' ' -f1 "$STATE/run/$1.pid"; }

alive() { # alive NAME
  local pid start
  [ -s "$STATE/run/$1.pid" ] || return 1
  read -r pid start <"$STATE/run/$1.pid" || return 1
  [ -n "$start" ] && [ "$(started_at "$pid")" = "$start" ] &&
    [ "$(sed 's/^.*) //' "/proc/$pid/stat" 2>/dev/null | cut -c1)" != Z ]
}

end() { # end NAME [SIGNAL]: signal (TERM), wait, and KILL after ten seconds
  local name=$1 signal=${2:-TERM} pid
  if alive "$name"; then
    pid=$(pid_of "$name")
    kill -"$signal" "$pid" 2>/dev/null || true
    # The shell says of a process that was killed that it was; `wait` takes the word away.
    if [ "$signal" = KILL ]; then wait "$pid" 2>/dev/null || true; fi
    for _ in $(seq 200); do alive "$name" || break; sleep 0.05; done
    if alive "$name"; then kill -KILL "$pid" 2>/dev/null || true; fi
  fi
  rm -f "$STATE/run/$name.pid"
}

end_all() {
  local file
  # Youngest first: clients before what they talk to.
  find "$STATE/run" -maxdepth 1 -name '*.pid' -printf '%T@ %f\n' | sort -rn | cut -d' ' -f2 |
    while read -r file; do end "${file%.pid}"; done
}

wait_for() { # wait_for NAME SECONDS COMMAND...: until the command succeeds; NAME must live on
  local name=$1 seconds=$2; shift 2
  for _ in $(seq $((seconds * 50))); do
    "$@" >/dev/null 2>&1 && return 0
    alive "$name" || { tail -n 5 "$STATE/log/$name.log" >&2; die "$name ended while it was waited for"; }
    sleep 0.02
  done
  tail -n 5 "$STATE/log/$name.log" >&2
  die "$name: no '$*' within $seconds s"
}

answers() { curl -s -o /dev/null --max-time 2 "$1"; }   # any HTTP answer will do

within() { # within SECONDS COMMAND...: whether the command succeeds before that
  local seconds=$1; shift
  for _ in $(seq $((seconds * 20))); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.05
  done
  return 1
}
quiet() { "$@" >"$STATE/log/quiet" 2>&1; }
mib() { awk "BEGIN { printf \"%.1f\", $1 / 1048576 }"; }

# ---- results ----

passed=0 failed=0
check() { # check NAME COMMAND...: a case that passes when the command succeeds
  local name=$1; shift
  if "$@"; then ok "$name"; else not_ok "$name" "$*"; fi
}
ok() { passed=$((passed + 1)); }
not_ok() { # not_ok NAME WHAT-WAS-SEEN
  failed=$((failed + 1))
  say "NOT OK: $1: $(tr '\n' ' ' <<<"$2" | cut -c1-400)"
}
same() { # same NAME WANTED FOUND
  if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "wanted '$2', found '$3'"; fi
}
at_most() { # at_most NAME LIMIT FOUND
  if [ "$3" -le "$2" ]; then ok "$1"; else not_ok "$1" "at most $2 wanted, found $3"; fi
}
