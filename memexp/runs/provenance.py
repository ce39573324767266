"""Where a run came from: commit, uncommitted changes, packages, command line, host and devices, but no secrets."""

import hashlib
import json
import os
import platform
import socket
import subprocess
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from memexp.credentials import is_free, mask
from memexp.project import root

CHECKOUT = Path(__file__).resolve().parents[2]
"""The checkout that this package was installed from, if `is_own` says so; else the folder of installed packages."""
CODE_FILE = ".memexp_code.json"
"""File in code that was sent to a node without its git history: {commit, dirty, diff or diff_sha256}."""
MAX_DIFF = 1_000_000
"""Characters of the uncommitted changes that are kept."""
GIT_S = 60.0
"""Seconds after which git is not waited for any longer."""


def utc_now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def provenance(argv: list[str], device: str, world_size: int) -> dict[str, Any]:
    """The record for provenance.json. Environment variables are left out, because they may hold keys."""
    return {
        "time": utc_now(),
        **code(),
        "project": project(root()),
        "argv": [mask(word) for word in argv],
        "python": platform.python_version(),
        "packages": dict(sorted((d.name, d.version) for d in distributions() if d.name)),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "device": device,
        "world_size": world_size,
    }


def code(checkout: Path = CHECKOUT) -> dict[str, Any]:
    """Commit and uncommitted changes of memexp: from its own checkout, or from the CODE_FILE of its launch.

    Of an installed package they are not known (None): `packages` holds its version.
    """
    if (record := checkout / CODE_FILE).exists():
        return _sent(record)
    return changes(checkout) if is_own(checkout) else {"commit": None, "dirty": False, "diff": None}


def _sent(record: Path) -> dict[str, Any]:
    """What the CODE_FILE of sent code says."""
    sent = json.loads(record.read_text())
    return sent | kept_diff(sent["diff"] or "")


def is_own(checkout: Path) -> bool:
    """Whether `checkout` is a checkout of memexp: the top of a git repository that tracks this package's files.

    The repository around an installed package, such as that of a project with a .venv, is somebody else's.
    """
    top = ask_git(checkout, "rev-parse", "--show-toplevel")
    files = [f"memexp/runs/{Path(__file__).name}", "pyproject.toml"]
    tracked = ask_git(checkout, "ls-files", "--error-unmatch", "--", *files)
    return bool(top and tracked) and Path(str(top)).resolve() == checkout.resolve()


def project(folder: Path) -> dict[str, Any] | None:
    """Commit and uncommitted changes of the user's project, which `folder` is in; None if that is memexp or no git."""
    for place in (folder, *folder.parents):
        if (record := place / CODE_FILE).exists() and place.resolve() != CHECKOUT:
            return {"name": place.name, **_sent(record)}
    top = ask_git(folder, "rev-parse", "--show-toplevel")
    if not top or is_own(Path(top)):
        return None
    return {"name": Path(top).name, **changes(Path(top))}


def changes(checkout: Path) -> dict[str, Any]:
    """Commit and uncommitted changes of a checkout: {commit, dirty, diff or diff_sha256}."""
    return {
        "commit": ask_git(checkout, "rev-parse", "--verify", "HEAD"),
        "dirty": bool(ask_git(checkout, "status", "--porcelain")),
        **kept_diff(ask_git(checkout, "diff", "--no-ext-diff", "--no-textconv", "HEAD") or ""),
    }


def kept_diff(diff: str) -> dict[str, Any]:
    """What is kept of a diff: its text, if that surely holds no credential, else its SHA-256."""
    if not is_free(diff[:MAX_DIFF]):
        return {"diff": None, "diff_sha256": hashlib.sha256(diff.encode()).hexdigest()}
    return {"diff": diff[:MAX_DIFF] or None}


def git(folder: Path, *arguments: str) -> bytes:
    """What git prints about `folder`. Raises OSError or SubprocessError."""
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]  # which would start a program
    return subprocess.run(command, capture_output=True, check=True, timeout=GIT_S).stdout


def ask_git(folder: Path, *arguments: str) -> str | None:
    """The same as text, without newlines at the end; None if git fails or is not installed."""
    try:
        return git(folder, *arguments).decode(errors="replace").rstrip("\n")  # a file may have any encoding
    except (OSError, subprocess.SubprocessError):
        return None
