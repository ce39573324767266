#!/usr/bin/env bash
# run.sh RECIPE KEY=VALUE...: trains one run on all GPUs of all nodes: checks, torchrun, a watch, an exit code.
# Exit codes: 0 done (or its time is up), 2 wrong words (never restarted), 75 worth another start (preempted, hung, a sick
# node, an error that the next start may not meet), 1 failed for good. memexp/launch/cloud/node.py decides.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
here=devops/skypilot

export MEMEXP_HOME="${MEMEXP_HOME:-$HOME/memexp_home}"
run_dir="$MEMEXP_HOME/runs/${MEMEXP_RUN:?the run has no name}"
python="${MEMEXP_PYTHON:-.venv/bin/python}"
nodes="${SKYPILOT_NUM_NODES:-1}"
rank="${SKYPILOT_NODE_RANK:-0}"
gpus="${SKYPILOT_NUM_GPUS_PER_NODE:-0}"
processes="${MEMEXP_PROCESSES:-$((gpus > 0 ? gpus : 1))}"
head_ip="$(head -n1 <<<"${SKYPILOT_NODE_IPS:-127.0.0.1}")"
# Jobs of a cluster may share a node's ports; the scheduler's job number keeps them apart. The port below is the checks'.
port=$((20000 + 2 * (${SLURM_JOB_ID:-4750} % 10000)))
torchrun=(-m torch.distributed.run --nnodes="$nodes" --node-rank="$rank" --nproc-per-node="$processes"
  --master-addr="$head_ip")
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

# What the node has cost since setup.sh began is this start's too.
since="$(cat "${HOME:-/tmp}/.memexp_node_since" 2>/dev/null || date +%s)"
rm -f "${HOME:-/tmp}/.memexp_node_since"

mkdir -p "$run_dir/starts" || exit 1
if [ "$rank" -eq 0 ]; then
  exec > >(
    trap '' TERM INT # a signal to the whole group must not cut off what the trainer says last
    exec tee -a "$run_dir/log.txt"
  ) 2>&1
  echo "== start $(date -u +%Y-%m-%dT%H:%M:%SZ) on $(hostname): $*"
  # How an earlier start ended says nothing about this one.
  rm -f "$run_dir/time_is_up" "$run_dir/silent"
  if grep -q '"status": *"preempted"' "$run_dir/exit.json" 2>/dev/null; then rm -f "$run_dir/exit.json"; fi
fi

stopped=0 trainer="" watch=""
trap 'stopped=1; [ -n "$trainer" ] && kill -TERM "$trainer" 2>/dev/null' TERM INT

# end CODE: what SkyPilot is told.
end() {
  local code="$1"
  if [ -n "${number:-}" ]; then
    echo $(($(date +%s) - since)) >"$run_dir/starts/$(printf '%03d' "$number").seconds"
    code="$("$python" -m memexp.launch.cloud.node end "$number" "$1" "$stopped")"
    [[ "$code" =~ ^[0-9]+$ ]] || code="$1"
  elif [ "$stopped" -eq 1 ] || [ "$code" -eq 77 ]; then
    code=75
  fi
  exit "$code"
}

"$python" -m memexp.launch.cloud.node check "$@" || exit
words=()
if [ "$rank" -eq 0 ]; then
  mapfile -t words < <("$python" -m memexp.launch.cloud.node start)
  number="${words[0]:-}"
  words=("${words[@]:1}")
fi

# The log of NCCL is kept where the run fails.
export NCCL_DEBUG="${NCCL_DEBUG:-INFO}" NCCL_DEBUG_FILE="$scratch/nccl.%h.%p.txt"
bash "$here/preflight.sh" "$python" "$processes" "${torchrun[@]}" --master-port="$((port + 1))"
case $? in
  0) ;;
  75) end 77 ;; # sick: another node may do
  *) end 78 ;;  # no node of this kind will
esac
[ "$stopped" -eq 1 ] && end 75

train=(-m memexp train "$@" "${words[@]}")
if [ "$nodes" -gt 1 ] || [ "$processes" -gt 1 ]; then
  "$python" "${torchrun[@]}" --master-port="$port" "${train[@]}" &
else
  "$python" "${train[@]}" &
fi
trainer=$!
if [ "$rank" -eq 0 ]; then
  # In a session of its own: it goes on watching when the whole group is told to stop.
  setsid bash "$here/watch.sh" "$trainer" "$run_dir" "${number:-0}" "$since" "$python" &
  watch=$!
fi

wait "$trainer"
code=$?
# A trapped signal ends `wait` early: wait again for the checkpoint to be written.
while kill -0 "$trainer" 2>/dev/null; do
  wait "$trainer"
  code=$?
done
# Only what lives is waited for: bash forgets a child that ends at the moment of a signal, and would wait for ever.
if [ -n "$watch" ] && kill "$watch" 2>/dev/null; then wait "$watch"; fi
if [ "$code" -ne 0 ] && compgen -G "$scratch/nccl.*" >/dev/null; then
  mkdir -p "$run_dir/nccl" && cp "$scratch"/nccl.* "$run_dir/nccl/"
  tail -q -n 5 "$scratch"/nccl.*
fi
end "$code"
