# shellcheck shell=bash
# A real Prometheus watches weir by the rules of deploy/prometheus while the pulls that Docker Hub
# allows run out and come back: the alerts fire and go. And what /metrics says is well formed.

proxy_down TERM
quota_front() { # quota_front N: the hub, stating N of 100 pulls left
  front quota-front "listen 127.0.0.1:$HUB_FRONT;
    location / {
      proxy_pass http://127.0.0.1:$HUB;
      add_header ratelimit-limit '100;w=21600' always;
      add_header ratelimit-remaining '$1;w=21600' always;
      add_header docker-ratelimit-source 127.0.0.1 always;
    }"
}
tag=http://127.0.0.1:$WEIR/v2/library/hello/manifests/1
metrics() { curl -s "http://127.0.0.1:$ADMIN/metrics"; }

quota_front 90
HUB_ENDPOINT=$HUB_FRONT
proxy_fresh

mkdir -p "$STATE/prometheus"
cp "$E2E"/../../deploy/prometheus/recording.yml "$STATE/prometheus/"
# What waits minutes there waits seconds here.
sed 's/^\( *for:\).*/\1 2s/' "$E2E"/../../deploy/prometheus/alerts.yml >"$STATE/prometheus/alerts.yml"
sed "s/: 15s/: 1s/; s/weir:5001/127.0.0.1:$ADMIN/" "$E2E"/../../deploy/prometheus/prometheus.yml \
  >"$STATE/prometheus/prometheus.yml"
spawn prometheus prometheus --config.file="$STATE/prometheus/prometheus.yml" \
  --storage.tsdb.path="$STATE/prometheus/data" --web.listen-address="127.0.0.1:$PROMETHEUS"
prom=http://127.0.0.1:$PROMETHEUS
wait_for prometheus 30 curl -sf "$prom/-/ready"

query() { curl -s --data-urlencode "query=$1" "$prom/api/v1/query" | jq -r '.data.result[0].value[1] // "none"'; }
firing() { # the alerts that fire, in one line
  curl -s "$prom/api/v1/alerts" | jq -r '[.data.alerts[] | select(.state == "firing") | .labels.alertname] | unique | join(" ")'
}
until_firing() { # until_firing WANTED: for at most 30 s
  for _ in $(seq 300); do
    [ "$(firing)" != "$1" ] || return 0
    sleep 0.1
  done
  return 1
}
pull_says() { # pull_says WHEN WANTED: pulls, and waits for these alerts
  get_manifest "$tag" || not_ok "alerts: $1" "the pull failed"
  until_firing "$2" || true
  same "alerts: $1" "$2" "$(firing)"
  say "$(date +%T)  $1: $(query docker_hub_rate_limit_remaining) pulls left; firing: ${2:-nothing}"
}

scraped() { [ "$(query docker_hub_rate_limit_remaining)" = 90 ]; }
get_manifest "$tag" || not_ok "alerts: first pull" "failed"
check "alerts: what the upstream states arrives" within 30 scraped
same "alerts: scrape job" 1 "$(query 'up{job="container-registry"}')"
pull_says "plenty left" ""
quota_front 15
pull_says "running out" "DockerHubRateLimitLow RateLimitLow"
quota_front 0
pull_says "used up" "DockerHubRateLimitLow RateLimitLow RateLimitUsedUp"
quota_front 90
pull_says "back again" ""

metrics >"$STATE/metrics"
# Its one complaint is the name rate_limit_total, a gauge that others' alerts expect by that name.
promtool check metrics <"$STATE/metrics" 2>&1 | grep -v '^rate_limit_total ' >"$STATE/lint" || true
same "alerts: promtool check metrics" "" "$(cat "$STATE/lint")"

# Absent until there is a certificate; here there is none.
certificates='weir_certificate_expiry_timestamp_seconds '
# Everything that rules and dashboard ask for exists; names with colons are recorded, not scraped.
sed -n 's/^# TYPE \([a-z_]*\) .*/\1/p' "$STATE/metrics" | sort >"$STATE/exported"
cat "$E2E"/../../deploy/prometheus/{alerts,recording}.yml "$E2E"/../../deploy/grafana/dashboards/weir.json |
  grep -oP '(?<![:\w])(weir|container_registry|registry_request|rate_limit|docker_hub|process)_[a-z_]+(?![\w:])' |
  sed -E 's/_(bucket|count|sum)$//' | sort -u >"$STATE/wanted"
same "alerts: metrics that rules and dashboard ask for and weir does not have" "$certificates" \
  "$(comm -23 "$STATE/wanted" "$STATE/exported" | tr '\n' ' ')"

end quota-front
end prometheus
proxy_down TERM
# shellcheck disable=SC2034
HUB_ENDPOINT=$HUB
