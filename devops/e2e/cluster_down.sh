#!/usr/bin/env bash
# cluster_down.sh: ends what cluster_up.sh started, by the ids that it wrote down; what is left of the cluster's user, and what
# works in its folder.
set -uo pipefail
: "${BASE:?directory of the whole cluster}" "${CLUSTER_USER:=memexp-e2e}"
export SLURM_CONF="$BASE/etc/slurm.conf"
scancel -u "$CLUSTER_USER" 2>/dev/null
for _ in $(seq 60); do # the nodes end their jobs while they live
  if [ -z "$(squeue -h 2>/dev/null)" ]; then break; fi
  sleep 1
done
if [ -f "$BASE/run/sshd.pid" ]; then # sessions too: SkyPilot keeps some open, bound to this cluster's configuration
  pgrep -P "$(cat "$BASE/run/sshd.pid")" | xargs -r kill
fi
for file in "$BASE"/run/{sshd,slurmd-*,slurmctld,munged}.pid; do
  if [ -f "$file" ]; then kill "$(cat "$file")" 2>/dev/null; fi
done
for _ in $(seq 40); do
  alive=0
  for file in "$BASE"/run/*.pid; do
    if [ -f "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null; then alive=1; fi
  done
  if [ "$alive" -eq 0 ]; then break; fi
  sleep 0.5
done
for place in /proc/[0-9]*/cwd; do # slurmd's helpers that have lost it
  if [[ "$(readlink "$place")" = "$BASE/log"* ]]; then kill -KILL "$(basename "$(dirname "$place")")" 2>/dev/null; fi
done
if user="$(id -u "$CLUSTER_USER" 2>/dev/null)"; then
  rm -rf "/tmp/uv_cache_$user" # SkyPilot's place for what nodes download
  for _ in 1 2 3 4 5; do
    ps -u "$CLUSTER_USER" -o pid= | xargs -r kill -KILL 2>/dev/null
    if userdel "$CLUSTER_USER" 2>/dev/null; then break; fi
    sleep 1
  done
fi
