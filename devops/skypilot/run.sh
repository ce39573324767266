#!/usr/bin/env bash
# run.sh RECIPE KEY=VALUE...: trains one run on all GPUs of all nodes, under a watch.
# Exit codes: 0 done (or its time is up), 75 stopped after a checkpoint: SkyPilot restarts it, else failed.
set -uo pipefail
cd "$(dirname "$0")/../.."

export MEMEXP_HOME="${MEMEXP_HOME:-$HOME/memexp_home}"
run_dir="$MEMEXP_HOME/runs/${MEMEXP_RUN:?the run has no name}"
mkdir -p "$run_dir"
# How an earlier start ended says nothing about this one.
rm -f "$run_dir/time_is_up"
if grep -q '"status": *"preempted"' "$run_dir/exit.json" 2>/dev/null; then rm -f "$run_dir/exit.json"; fi
python="${MEMEXP_PYTHON:-.venv/bin/python}"

nodes="${SKYPILOT_NUM_NODES:-1}"
rank="${SKYPILOT_NODE_RANK:-0}"
gpus="${SKYPILOT_NUM_GPUS_PER_NODE:-0}"
head_ip="$(head -n1 <<<"${SKYPILOT_NODE_IPS:-127.0.0.1}")"
# Jobs of a cluster may share a node's ports; the scheduler's job number keeps them apart.
port=$((20000 + ${SLURM_JOB_ID:-9500} % 20000))

if [ "$nodes" -gt 1 ] || [ "$gpus" -gt 1 ]; then
  processes=$((gpus > 0 ? gpus : 1))
  "$python" -m torch.distributed.run --nnodes="$nodes" --node-rank="$rank" --nproc-per-node="$processes" \
    --master-addr="$head_ip" --master-port="$port" -m memexp train "$@" &
else
  "$python" -m memexp train "$@" &
fi
trainer=$!
trap 'kill -TERM "$trainer" 2>/dev/null' TERM INT
bash devops/skypilot/watch.sh "$trainer" "$run_dir" "$rank" &
watch=$!

wait "$trainer"
code=$?
# A trapped signal ends `wait` early: wait again for the checkpoint to be written.
while kill -0 "$trainer" 2>/dev/null; do wait "$trainer"; code=$?; done
kill "$watch" 2>/dev/null

# torchrun turns every failure into 1; exit.json says how the run really ended.
if [ -f "$run_dir/time_is_up" ]; then exit 0; fi
if [ "$code" -ne 0 ] && grep -q '"status": *"preempted"' "$run_dir/exit.json" 2>/dev/null; then exit 75; fi
exit "$code"
