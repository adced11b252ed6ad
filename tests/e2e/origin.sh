# shellcheck shell=bash
# The upstreams, all docker-registry, and what they have seen. Sourced by `run`.
#
#   hub      auth: token, through token_server.py; stands for docker.io
#   private  auth: htpasswd (Basic); stands for private.test
#   slow     no auth, behind an nginx that gives 16 MiB/s; stands for slow.test

BOB=bob-secret
SLOW_RATE=16m

registry() { # registry NAME PORT [EXTRA]: one docker-registry with an access log
  local name=$1 port=$2 extra=${3:-}
  cat >"$STATE/conf/$name.yml" <<YML
version: 0.1
log: {level: warn, accesslog: {disabled: false}}
storage:
  filesystem: {rootdirectory: $STATE/origin/$name, maxthreads: 100}
  maintenance: {uploadpurging: {enabled: false}}
http: {addr: '127.0.0.1:$port', secret: e2e, relativeurls: true}
$extra
YML
  spawn "$name" env OTEL_TRACES_EXPORTER=none docker-registry serve "$STATE/conf/$name.yml"
  wait_for "$name" 20 answers "http://127.0.0.1:$port/v2/"
}

hub_up() {
  registry hub "$HUB" "auth: {token: {realm: 'http://127.0.0.1:$TOKEN/token', \
service: registry.e2e.test, issuer: e2e token server, rootcertbundle: $STATE/conf/token.pem}}"
}
private_up() { registry private "$PRIVATE" "auth: {htpasswd: {realm: e2e, path: $STATE/conf/htpasswd}}"; }

origins_up() {
  openssl ecparam -name prime256v1 -genkey -noout -out "$STATE/conf/token.key"
  openssl req -x509 -new -key "$STATE/conf/token.key" -days 30 -subj /CN=e2e \
    -out "$STATE/conf/token.pem"
  htpasswd -Bbn -C 4 bob "$BOB" >"$STATE/conf/htpasswd"
  spawn token "$E2E/token_server.py" "$TOKEN" "$STATE/conf/token.key" "$STATE/log/token.jsonl"
  wait_for token 20 answers "http://127.0.0.1:$TOKEN/token"
  hub_up
  private_up
  registry slow "$SLOW_ORIGIN"
  mkdir -p "$STATE/nginx"
  cat >"$STATE/conf/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid $STATE/nginx/pid;
error_log $STATE/log/nginx-error.log warn;
events {}
http {
  access_log $STATE/log/slow-front.log;
  client_body_temp_path $STATE/nginx/body; proxy_temp_path $STATE/nginx/proxy;
  fastcgi_temp_path $STATE/nginx/f; uwsgi_temp_path $STATE/nginx/u; scgi_temp_path $STATE/nginx/s;
  server {
    listen 127.0.0.1:$SLOW;
    client_max_body_size 0;
    location / {
      proxy_http_version 1.1;
      proxy_pass http://127.0.0.1:$SLOW_ORIGIN;
      proxy_max_temp_file_size 0;
      limit_rate $SLOW_RATE;
    }
  }
}
CONF
  spawn nginx nginx -c "$STATE/conf/nginx.conf" -e "$STATE/log/nginx-error.log"
  wait_for nginx 20 answers "http://127.0.0.1:$SLOW/v2/"
}

front() { # front NAME SERVER: an nginx of its own with this server, started anew
  local folder=$STATE/front-$1
  end "$1"
  rm -rf "$folder" && mkdir -p "$folder"
  cat >"$STATE/conf/$1.conf" <<CONF
daemon off;
worker_processes 1;
pid $folder/pid;
error_log $STATE/log/$1-error.log warn;
events {}
http {
  log_format seconds '\$msec \$request_method \$host\$request_uri';
  access_log off;
  client_body_temp_path $folder/body; proxy_temp_path $folder/proxy;
  fastcgi_temp_path $folder/f; uwsgi_temp_path $folder/u; scgi_temp_path $folder/s;
  server { $2 }
}
CONF
  spawn "$1" nginx -c "$STATE/conf/$1.conf" -e "$STATE/log/$1-error.log"
  wait_for "$1" 20 test -s "$folder/pid"
}

# ---- images ----

push() { # push FROM TO [CREDENTIALS]
  skopeo copy --quiet --all --preserve-digests --policy "$STATE/conf/policy.json" \
    --dest-tls-verify=false ${3:+--dest-creds "$3"} "$1" "docker://$2"
}

images_up() {
  "$E2E/images.py" "$STATE/images"
  push "oci:$STATE/images/hello" "127.0.0.1:$HUB/library/hello:1" pusher:pusher-secret
  push "dir:$STATE/images/classic" "127.0.0.1:$HUB/library/classic:1" pusher:pusher-secret
  push "oci:$STATE/images/secret" "127.0.0.1:$HUB/acme/secret:1" pusher:pusher-secret
  push "oci:$STATE/images/app" "127.0.0.1:$PRIVATE/team/app:1" "bob:$BOB"
  push "oci:$STATE/images/big" "127.0.0.1:$SLOW_ORIGIN/load/big:1"
}

image_manifest() { # image_manifest IMAGE-FOLDER: the file of a single manifest
  echo "$STATE/images/$1/blobs/sha256/$(jq -r '.manifests[0].digest' "$STATE/images/$1/index.json" | cut -d: -f2)"
}
digest_of() { # digest_of IMAGE-FOLDER: of what its tag names
  local folder=$STATE/images/$1
  if [ -e "$folder/manifest.json" ]; then
    sha256sum "$folder/manifest.json" | sed 's/^\([0-9a-f]*\).*/sha256:\1/'
  else
    jq -r '.manifests[0].digest' "$folder/index.json"
  fi
}

# ---- what an upstream was asked ----

# `mark` remembers how long each log is; `asked` counts from there on.
mark() {
  local name
  for name in hub private slow front weir given-up-seen; do
    { cat "$STATE/log/$name.log" 2>/dev/null || true; } | wc -l >"$STATE/run/$name.mark"
  done
  { cat "$STATE/log/token.jsonl" 2>/dev/null || true; } | wc -l >"$STATE/run/token.mark"
}
since_mark() { # since_mark NAME: the lines of its log
  { cat "$STATE/log/$1.log" 2>/dev/null || true; } | tail -n +"$(($(cat "$STATE/run/$1.mark") + 1))"
}

# asked NAME METHOD KIND: how many requests were answered since the mark; KIND is manifests, blobs,
# ping, or refused: a 401 is the question for credentials and counted only there.
asked() {
  since_mark "$1" |
    awk -v method="$2" -v kind="$3" '
      match($0, /"(GET|HEAD) [^"]*" [0-9]+/) {
        split(substr($0, RSTART + 1, RLENGTH - 1), part, /[" ]+/)
        what = "other"
        if (part[2] ~ /\/manifests\//) what = "manifests"
        if (part[2] ~ /\/blobs\//) what = "blobs"
        if (part[2] == "/v2/") what = "ping"
        if (part[4] == 401) what = "refused"
        if ((method == "*" || part[1] == method) && what == kind) n++
      }
      END { print n + 0 }'
}
fetched_twice() { # fetched_twice NAME: blobs that were sent more than once since the mark
  since_mark "$1" |
    sed -nE 's/.*"GET [^"]*\/blobs\/([^ ?"]*)[^"]*" 20[06] .*/\1/p' | sort | uniq -d
}
sent() { # sent NAME: bytes of blobs since the mark
  since_mark "$1" |
    awk '/"GET [^"]*\/blobs\// { match($0, /" [0-9]+ [0-9]+/); split(substr($0, RSTART), p, " "); n += p[3] } END { print n + 0 }'
}
tokens_asked() { tail -n +"$(($(cat "$STATE/run/token.mark") + 1))" "$STATE/log/token.jsonl" | wc -l; }

upstream_saw() { # upstream_saw NAME: the line of the table
  local manifests blobs heads extra=''
  heads=$(asked "$1" HEAD manifests) manifests=$(asked "$1" GET manifests) blobs=$(asked "$1" GET blobs)
  [[ $1 != hub && $1 != front ]] || extra=", $(tokens_asked) tokens"
  echo "$heads HEAD + $manifests GET manifests, $blobs GET blobs$extra"
}
