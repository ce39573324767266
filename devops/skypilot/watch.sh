#!/usr/bin/env bash
# watch.sh PID RUN_DIR NODE_RANK: stops the trainer when its time is up, and when it has gone silent.
# $MEMEXP_MAX_RUNTIME_HOURS counts over all restarts (RUN_DIR/runtime_seconds); $MEMEXP_HEARTBEAT_SECONDS is the longest
# silence of RUN_DIR/metrics.jsonl. Both may be empty: no limit.
set -uo pipefail
trainer="$1" run_dir="$2" rank="$3"
every="${MEMEXP_WATCH_SECONDS:-10}"
limit=$(awk -v hours="${MEMEXP_MAX_RUNTIME_HOURS:-0}" 'BEGIN { printf "%d", hours * 3600 }')
silence="${MEMEXP_HEARTBEAT_SECONDS:-0}"
before=$(cat "$run_dir/runtime_seconds" 2>/dev/null || echo 0)
started=$(date +%s)

trap 'kill "$nap" 2>/dev/null; exit' TERM
while kill -0 "$trainer" 2>/dev/null; do
  sleep "$every" & nap=$!
  wait "$nap"
  now=$(date +%s)
  total=$((before + now - started))
  if [ "$rank" -eq 0 ]; then echo "$total" >"$run_dir/runtime_seconds"; fi

  if [ "$limit" -gt 0 ] && [ "$total" -ge "$limit" ]; then
    echo "watch: time is up after $total s over all starts; stopping with a checkpoint" >&2
    touch "$run_dir/time_is_up"
    kill -TERM "$trainer"
    exit
  fi

  beat=$(stat -c %Y "$run_dir/metrics.jsonl" 2>/dev/null || echo 0)
  if [ "$beat" -lt "$started" ]; then beat=$started; fi
  if [ "$rank" -eq 0 ] && [ "${silence:-0}" -gt 0 ] && [ $((now - beat)) -ge "$silence" ]; then
    echo "watch: no metrics for $((now - beat)) s; stopping so that the job is restarted" >&2
    kill -TERM "$trainer"
    sleep 60
    kill -KILL "$trainer" 2>/dev/null
    exit
  fi
done
