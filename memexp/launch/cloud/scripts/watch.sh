#!/usr/bin/env bash
# watch.sh PID RUN_DIR START SINCE PYTHON: keeps count of a start's seconds (since SINCE, seconds of the epoch); stops the trainer
# when its time is up, and when it is silent.
# $MEMEXP_MAX_RUNTIME_HOURS counts over all starts (RUN_DIR/starts/*.seconds); $MEMEXP_HEARTBEAT_SECONDS is the longest
# silence of RUN_DIR/metrics.jsonl. Both may be empty: no limit.
set -uo pipefail
trainer="$1" run_dir="$2" start="$(printf '%03d' "$3")" since="$4" python="$5"
every="${MEMEXP_WATCH_SECONDS:-10}"
limit=$(awk -v hours="${MEMEXP_MAX_RUNTIME_HOURS:-0}" 'BEGIN { printf "%d", hours * 3600 }')
silence="${MEMEXP_HEARTBEAT_SECONDS:-0}"
grace="${MEMEXP_GRACE_SECONDS:-60}"
started=$(date +%s)
before=$(cat "$run_dir"/starts/*.seconds 2>/dev/null | awk '{ s += $1 } END { print s + 0 }')

count() {
  now=$(date +%s)
  echo $((now - since)) >"$run_dir/starts/.seconds.tmp" && mv "$run_dir/starts/.seconds.tmp" "$run_dir/starts/$start.seconds"
}

kill_tree() {
  local child
  for child in $(pgrep -P "$1"); do kill_tree "$child"; done
  kill -KILL "$1" 2>/dev/null
}

nap=""
trap 'kill "$nap" 2>/dev/null; exit' TERM
count
while kill -0 "$trainer" 2>/dev/null; do
  sleep "$every" &
  nap=$!
  wait "$nap"
  count
  if [ "$limit" -gt 0 ] && [ $((before + now - since)) -ge "$limit" ]; then
    echo "watch: time is up after $((before + now - since)) s over all starts; stopping with a checkpoint" >&2
    touch "$run_dir/time_is_up"
    kill -TERM "$trainer"
    limit=0
  fi

  beat=$(stat -c %Y "$run_dir/metrics.jsonl" 2>/dev/null || echo 0)
  if [ "$beat" -lt "$started" ]; then beat=$started; fi
  if [ "${silence:-0}" -gt 0 ] && [ $((now - beat)) -ge "$silence" ]; then
    echo "watch: no metrics for $((now - beat)) s; stopping so that the job is restarted" >&2
    touch "$run_dir/silent"
    "$python" -m memexp.launch.cloud.node stalled "$((now - beat))"
    kill -TERM "$trainer"
    for ((waited = 0; waited < grace; waited++)); do
      kill -0 "$trainer" 2>/dev/null || break
      sleep 1
    done
    kill_tree "$trainer"
    exit
  fi
done
