"""Where a run came from: commit, uncommitted changes, packages, command line, host and devices, but no secrets."""

import json
import os
import platform
import socket
import subprocess
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
"""The checkout that this package was installed from."""
CODE_FILE = ".memexp_code.json"
"""File in code that was sent to a node without its git history: {commit, dirty, diff}."""
MAX_DIFF = 1_000_000
"""Characters of the uncommitted changes that are kept."""


def utc_now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def provenance(argv: list[str], device: str, world_size: int) -> dict[str, Any]:
    """The record for provenance.json. Environment variables are left out, because they may hold keys."""
    return {
        "time": utc_now(),
        **code(),
        "argv": argv,
        "python": platform.python_version(),
        "packages": dict(sorted((d.name, d.version) for d in distributions() if d.name)),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "device": device,
        "world_size": world_size,
    }


def code(checkout: Path = CHECKOUT) -> dict[str, Any]:
    """Commit and uncommitted changes of the code that runs, from git or from the CODE_FILE of its launch."""
    if (record := checkout / CODE_FILE).exists():
        sent = json.loads(record.read_text())
        return {**sent, "diff": sent["diff"][:MAX_DIFF] if sent["diff"] else None}
    here = Path(__file__).parent
    diff = ask_git(here, "diff", "HEAD")
    return {
        "commit": ask_git(here, "rev-parse", "HEAD"),
        "dirty": bool(ask_git(here, "status", "--porcelain")),
        "diff": diff[:MAX_DIFF] if diff else None,
    }


def git(folder: Path, *arguments: str) -> bytes:
    """What git prints about `folder`. Raises OSError or CalledProcessError."""
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=True).stdout


def ask_git(folder: Path, *arguments: str) -> str | None:
    """The same as text, without newlines at the end; None if git fails or is not installed."""
    try:
        return git(folder, *arguments).decode(errors="replace").rstrip("\n")  # a file may have any encoding
    except (OSError, subprocess.CalledProcessError):
        return None
