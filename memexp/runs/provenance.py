"""Where a run came from: commit, uncommitted changes, packages, command line, host and devices. No secrets."""

import os
import platform
import socket
import subprocess
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

MAX_DIFF = 1_000_000
"""Characters of the uncommitted changes that are kept."""


def provenance(argv: list[str], device: str, world_size: int) -> dict[str, Any]:
    """A JSON-ready record. The environment's variables are left out: they may hold keys."""
    diff = _git("diff", "HEAD")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "diff": diff[:MAX_DIFF] if diff else None,
        "argv": argv,
        "python": platform.python_version(),
        "packages": dict(sorted((d.name, d.version) for d in distributions() if d.name)),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "device": device,
        "world_size": world_size,
    }


def _git(*words: str) -> str | None:
    """Output of a git command about the code that runs; None outside a checkout."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode(errors="replace").strip()  # a changed file may be in any encoding
