"""The code that nodes will run: a commit that they can fetch, or a clear reason why they cannot."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from memexp.config import UsageError, did_you_mean
from memexp.launch import LaunchError

CHECKOUT = Path(__file__).parents[3]
"""The checkout that this package was installed from."""


@dataclass(frozen=True)
class Code:
    """One commit, and whether nodes would get what is on this machine."""

    commit: str
    """Full hash; empty outside a git checkout."""
    repository: str
    """URL to clone from, without credentials; empty where there is no remote."""
    problems: tuple[str, ...]
    """Why a node would run something else than what is here."""
    workdir: str = ""
    """Snapshot that nodes are sent in place of a clone; empty: they clone."""

    def require(self) -> None:
        """Raises LaunchError unless nodes would run exactly the code that is here."""
        if self.problems:
            raise LaunchError(f"{'; '.join(self.problems)}: commit and push, or launch with --skip-git-check")


def find_code(ref: str | None = None, checkout: Path = CHECKOUT) -> Code:
    """The commit that `ref` (a branch, tag or hash; by default what is checked out) names.

    Raises UsageError for a ref that does not exist.
    """
    if _git(checkout, "rev-parse", "--git-dir") is None:
        if ref:
            raise UsageError(f"--git-ref {ref}: {checkout} is no git checkout")
        return Code("", "", ("memexp runs from no git checkout, so nodes cannot fetch its code",))
    commit = _git(checkout, "rev-parse", "--verify", "--quiet", f"{ref or 'HEAD'}^{{commit}}")
    if not commit:
        names = (_git(checkout, "for-each-ref", "--format=%(refname:short)") or "").split()
        raise UsageError(f"--git-ref {ref}: no such branch, tag or commit{did_you_mean(ref or 'HEAD', names)}")
    remote = (_git(checkout, "remote") or "").split()
    name = "origin" if "origin" in remote else remote[0] if remote else ""
    url = public_url(_git(checkout, "remote", "get-url", name) or "") if name else ""
    return Code(commit, url, tuple(_problems(checkout, commit, name, ref)))


def _problems(checkout: Path, commit: str, remote: str, ref: str | None) -> list[str]:
    problems = []
    changed = (_git(checkout, "status", "--porcelain") or "").splitlines()
    if changed and not ref:
        some = f"{len(changed)} files are" if len(changed) > 1 else f"{changed[0][3:]} is"
        problems.append(f"{some} not committed")
    if not remote:
        problems.append("the checkout has no git remote that nodes could fetch from")
    elif not _git(checkout, "branch", "--remotes", "--contains", commit):
        problems.append(f"commit {commit[:10]} is not pushed")
    return problems


def public_url(url: str) -> str:
    """`url` as a node without keys can use it: https in place of git@, and no user name, password or token in it."""
    if match := re.fullmatch(r"(?:ssh://)?git@([^:/]+)[:/](.+)", url):
        return f"https://{match[1]}/{match[2]}"
    return re.sub(r"^([a-z+]+://)[^/]*@", r"\1", url)


def _git(checkout: Path, *words: str) -> str | None:
    """What git prints, without the last newline; None where it fails (or is not there)."""
    try:
        done = subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
