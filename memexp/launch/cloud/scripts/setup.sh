#!/usr/bin/env bash
# shellcheck disable=SC2154
# The `setup` of every task. `memexp launch` puts $folder, $lock, $python and $packages before it, and `setup:` of
# resources after it. It makes .venv in the folder of the code: the
# packages of its lock file, and memexp as it is on the machine that launched (~/memexp_install: a wheel or a checkout;
# without it the code is memexp's own checkout). Idempotent: a restarted node runs it again, and finds .venv as it is
# where nothing changed.
set -euo pipefail
cd "$folder"
date +%s >"$HOME/.memexp_node_since"

extras=""
if command -v nvidia-smi >/dev/null; then extras="[gpu]"; fi
sent="$HOME/memexp_install"
stamp="$({
  echo "$extras$PWD $python" "${packages[@]}"
  cat pyproject.toml "$lock" "$sent/pyproject.toml" "$sent"/*.whl 2>/dev/null || true
} | sha256sum)"
if [ "$(cat .venv/installed 2>/dev/null)" != "$stamp" ]; then
  export PATH="$HOME/.local/bin:$PATH"
  command -v uv >/dev/null || python3 -m pip install --quiet --user uv || curl -LsSf https://astral.sh/uv/install.sh | sh
  [ -x .venv/bin/python ] || uv venv --quiet --python "$python" .venv
  case "$lock" in
    "") words=() ;;
    constraints.txt) words=(--constraint constraints.txt --editable ".$extras") ;;
    uv.lock)
      uv export --quiet --frozen --no-dev --no-hashes --no-emit-project --no-emit-package memexp >.venv/locked.txt
      words=(--requirement .venv/locked.txt)
      ;;
    *) words=(--requirement "$lock") ;;
  esac
  if [ "$lock" != constraints.txt ] && grep -qs '^\[build-system\]' pyproject.toml; then words+=(--editable .); fi
  if [ -e "$sent/pyproject.toml" ]; then
    words+=(--editable "$sent$extras")
  elif [ -d "$sent" ]; then
    echo "memexp$extras @ file://$(echo "$sent"/*.whl)" >.venv/memexp.txt
    words+=(--override .venv/memexp.txt --requirement .venv/memexp.txt)
  fi
  # A registry that does not answer now may do so in a moment: a failed setup ends the job for good.
  for wait in 10 60 0; do
    if uv pip install --quiet --python .venv/bin/python "${words[@]}" "${packages[@]}"; then break; fi
    if [ "$wait" -eq 0 ]; then exit 1; fi
    sleep "$wait"
  done
  echo "$stamp" >.venv/installed
fi
.venv/bin/python -P -c "import torch; print('torch', torch.__version__, 'GPUs', torch.cuda.device_count())"
export PATH="$PWD/.venv/bin:$PATH"
