#!/usr/bin/env python3
"""`memexp launch`, typed from a checkout: ./devops/skypilot/launch.py RECIPE --gpus=8 KEY=VALUE ..."""

import os
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parents[2] / ".venv"


def main() -> None:
    sys.path.pop(0)  # this folder: nothing here is to be imported
    try:
        from memexp.cli import main as memexp
    except ImportError as error:
        if Path(sys.prefix) != VENV and (VENV / "bin" / "python").exists():
            os.execv(VENV / "bin" / "python", [str(VENV / "bin" / "python"), *sys.argv])
        sys.exit(f"memexp cannot be imported ({error}): run `make .venv/ready` in {VENV.parent} first")
    sys.exit(memexp(["launch", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
