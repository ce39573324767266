#!/usr/bin/env bash
# Installs this checkout into .venv with the exact versions that CI runs. Idempotent: a restarted node runs it again.
set -euo pipefail
cd "$(dirname "$0")/../.."

export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || python3 -m pip install --quiet --user uv || curl -LsSf https://astral.sh/uv/install.sh | sh

[ -x .venv/bin/python ] || uv venv --quiet --python "$(cat .python-version)" .venv
extras=""
if command -v nvidia-smi >/dev/null; then extras="[gpu]"; fi
uv pip install --quiet --python .venv/bin/python --constraint constraints.txt --editable ".$extras"
.venv/bin/python -c "import torch; print('torch', torch.__version__, 'GPUs', torch.cuda.device_count())"
