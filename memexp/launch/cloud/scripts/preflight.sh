#!/usr/bin/env bash
# preflight.sh PYTHON PROCESSES TORCHRUN...: is this node fit for the run? Exit codes: 0 yes, 75 broken (another node may be fit), 1 no.
# $MEMEXP_PREFLIGHT: 'strict' (default), 'warn' (print what is wrong and continue), 'off'.
set -uo pipefail
python="$1" processes="$2"
shift 2
mode="${MEMEXP_PREFLIGHT:-strict}"
if [ "$mode" = off ]; then exit 0; fi

# unfit CODE MESSAGE...
unfit() {
  local code="$1"
  shift
  echo "preflight: $*" >&2
  if [ "$mode" != warn ]; then exit "$code"; fi
}

wanted="${SKYPILOT_NUM_GPUS_PER_NODE:-0}"
if [ "$wanted" -gt 0 ]; then
  found="$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU ')"
  if [ "$found" -lt "$wanted" ]; then unfit 75 "$found of $wanted GPUs answer on $(hostname)"; fi
fi

least="${MEMEXP_MIN_DISK_GB:-5}"
free="$(df -Pk "$MEMEXP_HOME" | awk 'NR == 2 { printf "%d", $4 / 1048576 }')"
if [ "${free:-0}" -lt "$least" ]; then unfit 1 "$MEMEXP_HOME has $free GB free, less than $least"; fi

if [ -n "${WANDB_API_KEY:-}" ] && [[ "${WANDB_MODE:-online}" = online ]]; then
  host="${WANDB_BASE_URL:-https://api.wandb.ai}"
  curl -sS -o /dev/null -m 10 "$host" 2>/dev/null ||
    echo "preflight: warning: $host does not answer; metrics stay in the run directory, and W&B is tried again" >&2
fi

if [ "${SKYPILOT_NUM_NODES:-1}" -gt 1 ] || [ "$processes" -gt 1 ]; then
  if ! timeout "${MEMEXP_PREFLIGHT_SECONDS:-300}" "$python" "$@" -m memexp.ppo.all_reduce; then
    tail -q -n 20 "${NCCL_DEBUG_FILE%%%*}"* 2>/dev/null
    unfit 75 "the ranks cannot reach one another"
  fi
fi
