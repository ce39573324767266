"""Git checkouts for tests."""

import subprocess
from pathlib import Path


def checkout_at(folder: Path) -> Path:
    """A checkout with one pushed commit of a.txt."""
    git(folder, "init", "--quiet", "--bare", "remote.git")
    git(folder, "clone", "--quiet", "remote.git", "work")
    work = folder / "work"
    (work / "a.txt").write_text("one\n")
    commit(work)
    git(work, "push", "--quiet", "origin", "HEAD")
    return work


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(work: Path) -> None:
    git(work, "add", ".")
    git(work, "commit", "--quiet", "-m", "a commit")
