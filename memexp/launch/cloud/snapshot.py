"""The code that is here, as a folder that nodes are sent: for --skip-git-check with code that they cannot fetch.

Holds what git knows (tracked files as they are in the checkout; what is untracked or ignored stays here) and
`.memexp_code.json` with commit and uncommitted changes, which the run's provenance takes over.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

from memexp.launch import LaunchError
from memexp.launch.cloud.code import CHECKOUT, Code
from memexp.runs import home
from memexp.runs.provenance import CODE_FILE

DIFF = ("diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")
"""What `git apply` reads, whatever the user's own settings are."""


def with_snapshot(code: Code, ref: str | None, checkout: Path = CHECKOUT) -> Code:
    """`code` with a snapshot of `ref` (None: of the checkout as it is) below $MEMEXP_HOME, made unless it is there."""
    if not code.commit:
        return code
    diff = b"" if ref else _git(checkout, *DIFF, "HEAD")
    name = f"{code.commit[:10]}-{hashlib.sha256(diff).hexdigest()[:10]}"
    folder = (home() / "snapshots" / name).resolve()
    if not folder.exists():
        _take(folder, code.commit, diff, checkout)
    return replace(code, workdir=str(folder))


def _take(folder: Path, commit: str, diff: bytes, checkout: Path) -> None:
    """Write the snapshot beside its place, then move it there: it is whole, or not there."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        with tarfile.open(fileobj=io.BytesIO(_git(checkout, "archive", "--format=tar", commit))) as tar:
            tar.extractall(beside, filter="data")
        if diff:
            alone = {**os.environ, "GIT_CEILING_DIRECTORIES": str(beside.parent)}  # in no repository
            command = ["git", "apply", "--whitespace=nowarn"]
            subprocess.run(command, input=diff, cwd=beside, env=alone, check=True, capture_output=True)
        (beside / ".skyignore").touch()  # everything is sent, whatever a .gitignore above says
        record = {"commit": commit, "dirty": bool(diff), "diff": diff.decode(errors="replace") or None}
        descriptor = os.open(beside / CODE_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(record, file)
        try:
            beside.rename(folder)
        except OSError:
            if not folder.exists():  # another launch was first
                raise
    except (OSError, subprocess.CalledProcessError, tarfile.TarError) as error:
        raise LaunchError(f"cannot take a snapshot of {checkout}: {error}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _git(checkout: Path, *words: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise LaunchError(f"git {words[0]} failed in {checkout}: {error}") from None
