#!/usr/bin/env bash
# Installs this checkout into .venv with the exact versions that CI runs. Idempotent: a restarted node runs it again, and
# finds .venv as it is where neither the versions nor the interpreter changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
date +%s >"$HOME/.memexp_node_since"

extras=""
if command -v nvidia-smi >/dev/null; then extras="[gpu]"; fi
stamp="$(cat pyproject.toml constraints.txt .python-version <(echo "$extras$PWD") | sha256sum)"
if [ "$(cat .venv/installed 2>/dev/null)" != "$stamp" ]; then
  export PATH="$HOME/.local/bin:$PATH"
  command -v uv >/dev/null || python3 -m pip install --quiet --user uv || curl -LsSf https://astral.sh/uv/install.sh | sh
  [ -x .venv/bin/python ] || uv venv --quiet --python "$(cat .python-version)" .venv
  # A registry that does not answer now may do so in a moment: a failed setup ends the job for good.
  for wait in 10 60 0; do
    if uv pip install --quiet --python .venv/bin/python --constraint constraints.txt --editable ".$extras"; then break; fi
    if [ "$wait" -eq 0 ]; then exit 1; fi
    sleep "$wait"
  done
  echo "$stamp" >.venv/installed
fi
.venv/bin/python -c "import torch; print('torch', torch.__version__, 'GPUs', torch.cuda.device_count())"
