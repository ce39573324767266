#!/usr/bin/env bash
# run.sh RECIPE KEY=VALUE...: trains one run on all GPUs of all nodes: checks, torchrun, a watch, an exit code. It is
# started in the folder of the code.
# Exit codes: 0 done (or its time is up), 2 wrong arguments (never restarted), 75 restart it (preempted, hung, a broken
# node, an error that may not happen again), 1 failed for good. memexp/launch/cloud/node.py decides.
set -uo pipefail
here="$(cd "$(dirname "$0")" && pwd)" || exit 1

export MEMEXP_HOME="${MEMEXP_HOME:-$HOME/memexp_home}"
python="${MEMEXP_PYTHON:-.venv/bin/python}"
MEMEXP_HOME="$("$python" -m memexp.launch.cloud.node home)" || exit 2 # with this node's ~ and $VARIABLES
run_dir="$MEMEXP_HOME/runs/${MEMEXP_RUN:?the run has no name}"
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

# The time since setup.sh began counts as part of this start.
since="$(cat "${HOME:-/tmp}/.memexp_node_since" 2>/dev/null || date +%s)"
rm -f "${HOME:-/tmp}/.memexp_node_since"

mkdir -p "$run_dir/starts" || exit 1
[ -e "$run_dir/log.txt" ] || (umask 077 && : >"$run_dir/log.txt") # it holds the command line
if [ "$rank" -eq 0 ]; then
  exec > >(
    trap '' TERM INT # a signal to the whole group must not cut off the trainer's last lines
    exec tee -a "$run_dir/log.txt"
  ) 2>&1
  echo "== start $(date -u +%Y-%m-%dT%H:%M:%SZ) on $(hostname): $*"
  # How an earlier start ended must not count for this one.
  rm -f "$run_dir/time_is_up" "$run_dir/silent"
  if grep -q '"status": *"preempted"' "$run_dir/exit.json" 2>/dev/null; then rm -f "$run_dir/exit.json"; fi
fi

stopped=0 trainer="" watch=""
trap 'stopped=1; [ -n "$trainer" ] && kill -TERM "$trainer" 2>/dev/null' TERM INT

# end CODE: exit with the code that tells SkyPilot whether to restart.
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
labels=()
if [ "$rank" -eq 0 ]; then
  mapfile -t labels < <("$python" -m memexp.launch.cloud.node start)
  number="${labels[0]:-}"
  labels=("${labels[@]:1}")
fi

# The log of NCCL is kept where the run fails.
export NCCL_DEBUG="${NCCL_DEBUG:-INFO}" NCCL_DEBUG_FILE="$scratch/nccl.%h.%p.txt"
bash "$here/preflight.sh" "$python" "$processes" "${torchrun[@]}" --master-port="$((port + 1))"
case $? in
  0) ;;
  75) end 77 ;; # broken: another node may be fit
  *) end 78 ;;  # no node of this kind is fit
esac
[ "$stopped" -eq 1 ] && end 75

train=(-m memexp train "$@" "${labels[@]}")
if [ "$nodes" -gt 1 ] || [ "$processes" -gt 1 ]; then
  "$python" "${torchrun[@]}" --master-port="$port" "${train[@]}" &
else
  "$python" "${train[@]}" &
fi
trainer=$!
if [ "$rank" -eq 0 ]; then
  # In a session of its own: it keeps watching when the whole group is told to stop.
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
# Wait only for a living child: bash forgets one that ends at the moment of a signal, and would wait for ever.
if [ -n "$watch" ] && kill "$watch" 2>/dev/null; then wait "$watch"; fi
if [ "$code" -ne 0 ] && compgen -G "$scratch/nccl.*" >/dev/null; then
  mkdir -p "$run_dir/nccl" && cp "$scratch"/nccl.* "$run_dir/nccl/"
  tail -q -n 5 "$scratch"/nccl.*
fi
end "$code"
