# shellcheck shell=bash
# The proxy under test: weir, configured for the upstreams of origin.sh. Sourced by `run`.

# How clients come in: SCHEME http or https; ACCESS open, or login: who may pull what is then a
# matter of rules, ci all of docker.io and guest only its official images.
SCHEME=http ACCESS=open
CI=ci-secret GUEST=guest-secret

# By this name clients know weir; clients_conf has it mean this machine.
# shellcheck disable=SC2034
WEIR_HOST=weir.test:$WEIR

weir_certificate() { # a CA that no client's system trusts, and weir's certificate
  (
    cd "$STATE/conf" || exit
    openssl ecparam -name prime256v1 -genkey -noout -out weir-ca.key
    openssl req -x509 -new -key weir-ca.key -days 30 -subj '/CN=e2e weir CA' -out weir-ca.pem
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=weir.test \
      -keyout weir.key -out weir.csr
    openssl x509 -req -in weir.csr -CA weir-ca.pem -CAkey weir-ca.key -CAcreateserial -days 30 \
      -extfile <(echo subjectAltName=DNS:weir.test) -out weir.pem
  ) >"$STATE/log/openssl" 2>&1
}

weir_door() { # the parts of the configuration that SCHEME and ACCESS stand for
  if [ "$SCHEME" = https ]; then
    printf '[server.tls]\ncertificate = "%s"\nkey = "%s"\n' "$STATE/conf/weir.pem" "$STATE/conf/weir.key"
  fi
  [ "$ACCESS" = login ] || return 0
  htpasswd -Bbn -C 4 ci "$CI" >"$STATE/conf/weir-users"
  htpasswd -Bbn -C 4 guest "$GUEST" >>"$STATE/conf/weir-users"
  cat <<TOML
[access]
anonymous = false
htpasswd = "$STATE/conf/weir-users"
[[access.rules]]
users = ["ci"]
allow = ["docker.io/**"]
[[access.rules]]
users = ["guest"]
allow = ["docker.io/library/*"]
TOML
}

hub_credential() { # who pulls from the hub: weir by a login of its own, or each client by theirs
  if [ "$ACCESS" = client ]; then
    echo 'auth = "client"'
    return
  fi
  cat <<TOML
[[registries."docker.io".credentials]]
for = "acme/"
username = "alice"
password_file = "$STATE/conf/alice.password"
TOML
}

weir_conf() { # weir_conf DIRECTORY: the configuration with this cache directory
  umask 077
  printf '%s' alice-secret >"$STATE/conf/alice.password"
  printf '%s' "$BOB" >"$STATE/conf/bob.password"
  umask 022
  cat >"$STATE/conf/weir.toml" <<TOML
[server]
listen = "127.0.0.1:$WEIR"
drain_timeout = "30s"

[admin]
listen = "127.0.0.1:$ADMIN"

[cache]
directory = "$1"

# Nothing is taken on trust: each pull by tag asks the upstream again.
[tags]
fresh_for = "0s"

[registries."docker.io"]
endpoints = ["http://127.0.0.1:$HUB_ENDPOINT"]
default = true
$(hub_credential)

[registries."private.test"]
endpoints = ["http://127.0.0.1:$PRIVATE"]

[[registries."private.test".credentials]]
username = "bob"
password_file = "$STATE/conf/bob.password"

[registries."slow.test"]
endpoints = ["http://127.0.0.1:$SLOW"]

$(weir_door)
TOML
}

CACHE=
proxy_up() { # proxy_up DIRECTORY: serving from this cache directory, new or not
  CACHE=$1
  weir_conf "$CACHE"
  spawn weir "$BINARY" --config "$STATE/conf/weir.toml" serve
  wait_for weir 10 curl -sf "http://127.0.0.1:$ADMIN/readyz"
}
proxy_down() { end weir "$1"; } # proxy_down SIGNAL

fresh=0
proxy_fresh() { # on an empty cache
  proxy_down TERM
  [ -z "$CACHE" ] || rm -rf "$CACHE"
  fresh=$((fresh + 1))
  proxy_up "$STATE/cache-$fresh"
}

get_manifest() { # get_manifest URL: as a client asks, body thrown away
  curl -sf -o /dev/null -H 'Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json' "$1"
}

# blobs_right: every file under blobs/ is what its name says, and how many there are.
blobs_right() {
  local file algorithm count=0
  for algorithm in sha256 sha512; do
    for file in "$CACHE/blobs/$algorithm"/*; do
      [ -e "$file" ] || continue
      [ "$("${algorithm}sum" <"$file" | cut -d' ' -f1)" = "$(basename "$file")" ] ||
        { say "wrong content: $file"; return 1; }
      count=$((count + 1))
    done
  done
  # shellcheck disable=SC2034
  BLOBS=$count
}
