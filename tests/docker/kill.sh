#!/usr/bin/env bash
# Kills the worker's container in the middle of the demo and looks whether anything was lost. For a compose project that is up
# with compose.ci.yaml, whose demo plays once; as root. PROJECT names it.
set -euo pipefail
project=${PROJECT:-callpulse}
here=$(cd "$(dirname "$0")" && pwd)
docker=${DOCKER:-/usr/bin/docker}

look() {  # a container of the image on the project's network
    "$docker" run --rm --network "${project}_default" --read-only --tmpfs /tmp -e CALLPULSE_BOOTSTRAP_SERVERS=kafka:19092 \
        -v "$here/lost.py:/lost.py:ro" --entrypoint python callpulse:cpu /lost.py "$1"
}
# With SHOWN=1: what the dashboard would show now, asked of Prometheus, some seconds later than it scrapes.
asked=(
    'workers up|sum(up{job="callpulse"})'
    'live calls|sum(callpulse_live_calls)'
    'open alerts|sum(callpulse_open_alerts)'
    'negative turns, 1 min|sum(rate(callpulse_turns_total{label="negative"}[1m])) / sum(rate(callpulse_turns_total[1m]))'
    'lag|sum(callpulse_consumer_lag)'
    'segments in a minute|sum(increase(messaging_client_consumed_messages_total{messaging_destination_name="calls.segments"}[1m]))'
    'restarts|sum(changes(process_start_time_seconds{job="callpulse"}[10m]))'
)
shown() {
    [ -n "${SHOWN:-}" ] || return 0
    sleep "$2"
    local row line="dashboard, $1:"
    for row in "${asked[@]}"; do
        line+=" ${row%%|*} $("$docker" exec "$project-prometheus-1" promtool query instant http://127.0.0.1:9090 "${row#*|}" |
            awk '/=>/ {v = sprintf("%.3g", $(NF - 1))} END {print v == "" ? "nothing" : v}');"
    done
    echo "$line"
}
state() { "$docker" inspect -f "{{.State.$2}}" "$project-$1-1"; }
since() { echo "$(date +%s.%N) $1" | awk '{printf "%.1f", $1 - $2}'; }

up=$(date -d "$("$docker" inspect -f '{{.Created}}' "$project-kafka-1")" +%s.%N)
seen=$(look alert)
echo "first alert seen $(echo "$seen $up" | awk '{printf "%.1f", $1 - $2}') s after the first container was made"

shown "before the kill" 0
killed=$(date +%s.%N)
was=$(state worker StartedAt)
kill -KILL "$(state worker Pid)"  # not docker kill: what an operator kills is not started again
echo "worker's container killed (SIGKILL), the demo goes on"
until [ "$(state worker StartedAt)" != "$was" ] && [ "$(state worker Running)" = true ]; do sleep 0.1; done
echo "started again after $(since "$killed") s"
shown "after the kill" 7
[ "$("$docker" wait "$project-demo-1")" = 0 ]
look settled
echo "all accounted for and committed $(since "$killed") s after the kill"
shown "at the end" 7
