"""The code that nodes run: a commit that they can fetch, or a snapshot of the code that is here.

A snapshot is a folder that is sent to the nodes (--skip-git-check). It holds what git knows: tracked files as they are
in the checkout, without untracked or ignored ones. `.memexp_code.json` in it holds the commit and the uncommitted
changes, for the run's provenance.
"""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from memexp.config import UsageError, did_you_mean
from memexp.launch import LaunchError
from memexp.runs import home
from memexp.runs.provenance import CHECKOUT, CODE_FILE, ask_git, git, is_own, kept_diff
from memexp.runs.scribe import private

DIFF = ("diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")
"""A diff that `git apply` reads, whatever the user's own settings are."""


@dataclass(frozen=True)
class Code:
    """One commit, and whether nodes can run what is on this machine."""

    commit: str
    """Full hash; empty outside a git checkout."""
    repository: str
    """URL to clone from, without credentials; empty if there is no remote."""
    problems: tuple[str, ...]
    """Why nodes would run other code than what is here."""
    workdir: str = ""
    """Snapshot that is sent to nodes instead of a clone; empty: they clone."""

    def require(self) -> None:
        """Raises LaunchError unless nodes would run exactly the code that is here."""
        if self.problems:
            raise LaunchError(f"{'; '.join(self.problems)}: commit and push, or launch with --skip-git-check")


def find_code(ref: str | None = None, checkout: Path = CHECKOUT) -> Code:
    """The commit of `ref`: a branch, tag or hash; None: what is checked out.

    Raises UsageError for a ref that does not exist.
    """
    if (checkout == CHECKOUT and not is_own(checkout)) or ask_git(checkout, "rev-parse", "--git-dir") is None:
        if ref:
            raise UsageError(f"--git-ref {ref}: {checkout} is no git checkout")
        return Code(
            "", "", (f"{checkout} is no git checkout of its own, so nodes cannot fetch its code: git init, git commit",)
        )
    commit = ask_git(checkout, "rev-parse", "--verify", "--quiet", f"{ref or 'HEAD'}^{{commit}}")
    if not commit:
        names = (ask_git(checkout, "for-each-ref", "--format=%(refname:short)") or "").split()
        raise UsageError(f"--git-ref {ref}: no such branch, tag or commit{did_you_mean(ref or 'HEAD', names)}")
    problems: list[str] = []
    others = [".", f":(exclude){home().relative_to(checkout)}"] if home().is_relative_to(checkout) else []
    changed = (ask_git(checkout, "status", "--porcelain", "--", *others) or "").splitlines()
    if changed and not ref:
        some = f"{len(changed)} files are" if len(changed) > 1 else f"{changed[0][3:]} is"
        problems.append(f"{some} not committed")
    remotes = (ask_git(checkout, "remote") or "").split()
    if not remotes:
        problems.append("the checkout has no git remote that nodes could fetch from")
        return Code(commit, "", tuple(problems))
    if not ask_git(checkout, "branch", "--remotes", "--contains", commit):
        problems.append(f"commit {commit[:10]} is not pushed")
    remote = "origin" if "origin" in remotes else remotes[0]
    return Code(commit, public_url(ask_git(checkout, "remote", "get-url", remote) or ""), tuple(problems))


def public_url(url: str) -> str:
    """`url` for a node without keys: https instead of git@, without user name, password or token."""
    if match := re.fullmatch(r"(?:ssh://)?git@([^:/]+)[:/](.+)", url):
        return f"https://{match[1]}/{match[2]}"
    return re.sub(r"^([a-z+]+://)[^/]*@", r"\1", url)


def with_snapshot(code: Code, ref: str | None, checkout: Path = CHECKOUT) -> Code:
    """`code` with a snapshot of `ref` (None: of the checkout as it is) below $MEMEXP_HOME.

    The same code has the same snapshot. Raises LaunchError where none can be taken.
    """
    if not code.commit:
        raise LaunchError(f"nodes cannot get the code: {checkout} is no git checkout with a commit")
    try:
        diff = b"" if ref else git(checkout, *DIFF, "HEAD")
        name = f"{code.commit[:10]}-{hashlib.sha256(diff).hexdigest()[:10]}"
        folder = (home() / "snapshots" / name).resolve()
        if not folder.exists():
            _take(folder, code.commit, diff, checkout)
    except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
        raise LaunchError(f"cannot take a snapshot of {checkout}: {error}") from None
    return replace(code, workdir=str(folder))


def _take(folder: Path, commit: str, diff: bytes, checkout: Path) -> None:
    """Write the snapshot into a temporary folder, then move it to its place: it is whole, or not there."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        with tarfile.open(fileobj=io.BytesIO(git(checkout, "archive", "--format=tar", commit))) as tar:
            tar.extractall(beside, filter="data")
        if diff:
            alone = {**os.environ, "GIT_CEILING_DIRECTORIES": str(beside.parent)}  # in no repository
            command = ["git", "apply", "--whitespace=nowarn"]
            subprocess.run(command, input=diff, cwd=beside, env=alone, check=True, capture_output=True)
        (beside / ".skyignore").touch()  # everything is sent, whatever a .gitignore above says
        record = {"commit": commit, "dirty": bool(diff), **kept_diff(diff.decode(errors="replace"))}
        with open(beside / CODE_FILE, "x", encoding="utf-8", opener=private) as file:
            json.dump(record, file)
        try:
            beside.rename(folder)
        except OSError:
            if not folder.exists():  # another launch took the same snapshot first
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
