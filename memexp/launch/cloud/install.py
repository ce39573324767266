"""What a node gets: the user's project, the packages of its lock file, and memexp as it is here.

What a node could not have in the same way is found before anything is submitted.
"""

import base64
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import Any, cast

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from memexp.config import UsageError
from memexp.envs.config import ThirdParty
from memexp.envs.origin import imports_of, origin_of
from memexp.launch import LaunchError
from memexp.launch.cloud.code import Code, find_code, with_snapshot
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.run_spec import RunSpec
from memexp.pattern import cell_modules
from memexp.project import (
    MARK,
    VARIABLE,
    ProjectFinder,
    find_project,
    is_in_project,
    is_installed,
    place_of,
    root,
    search,
)
from memexp.runs import home
from memexp.runs.loggers import LOGGERS
from memexp.runs.provenance import CHECKOUT, ask_git, is_own

SCRIPTS = Path(__file__).parent / "scripts"
LOCKS = ("uv.lock", "requirements.txt", "pyproject.toml")
"""Files that name a project's packages, the most exact first."""
OWN_LOCK = "constraints.txt"
SENT = "~/memexp_install"
"""Where a node finds memexp, if the code is not memexp's own checkout."""


@dataclass(frozen=True)
class Install:
    """What a node gets before a run starts there."""

    code: Code
    """Files of the folder in which a run starts: the project, or memexp's own checkout."""
    top: Path = CHECKOUT
    """Folder of these files here."""
    folder: str = "."
    """The project's folder in them."""
    lock: str = OWN_LOCK
    """File that names the packages; empty: there is none."""
    memexp: str = ""
    """"checkout" or "wheel": how memexp is sent beside the code; empty: the code is memexp's own checkout."""
    python: str = "3.11"
    pip: tuple[str, ...] = ()
    sent: str = ""
    """Folder that is sent to SENT; empty until `packed`."""

    @property
    def project(self) -> Path:
        return self.top / self.folder

    @property
    def envs(self) -> dict[str, str]:
        """Variables with which SkyPilot clones the code, and memexp finds the project, where it has two folders."""
        clone = {"GIT_URL": self.code.repository, "GIT_COMMIT_HASH": self.code.commit}
        folders = [os.path.relpath(folder, self.project) for folder in ProjectFinder.folders]
        searched = {VARIABLE: os.pathsep.join(folders)} if self.memexp and len(folders) > 1 else {}
        return {**(clone if self.code.repository else {}), **searched}

    def script(self, commands: Sequence[str]) -> str:
        """The setup of a task."""
        values = {"folder": self.folder, "lock": self.lock, "python": self.python}
        given = [
            *(f"{key}={shlex.quote(value)}" for key, value in values.items()),
            f"packages=({shlex.join(self.pip)})",
        ]
        return "\n".join([*given, (SCRIPTS / "setup.sh").read_text("utf-8"), *commands])

    def lines(self) -> list[str]:
        """What the plan says about it."""
        where = f"{self.top.name} at {self.code.commit[:10]}" if self.code.commit else "no files of yours"
        changed = self.code.commit and any("committed" in one for one in self.code.problems)
        sent = " with your uncommitted changes to files that git tracks" if changed else ""
        newest = " (without uv.lock: the newest versions that it allows)" if self.lock in LOCKS[1:] else ""
        packages = [self.lock + newest] if self.lock else []
        own = f"memexp {distribution('memexp').version} ({self.memexp} of this machine)" if self.memexp else "memexp"
        return [f"nodes get {where}{sent}", f"  they install {', '.join([*packages, own, *self.pip])}"]

    def packed(self, ref: str | None) -> "Install":
        """With the snapshots that are sent along, below $MEMEXP_HOME. Raises LaunchError where none can be taken."""
        code = with_snapshot(self.code, ref, self.top) if self.code.problems else self.code
        if self.memexp == "checkout":
            return replace(self, code=code, sent=with_snapshot(find_code(), None).workdir)
        return replace(self, code=code, sent=str(_wheel(distribution("memexp"))) if self.memexp else "")


def find_install(specs: Sequence[RunSpec], pip: Sequence[str], ref: str | None) -> Install:
    """What nodes get for the runs `specs`. Raises UsageError for a ref that does not exist."""
    search()
    loggers = dict.fromkeys(name for spec in specs for name in spec.config.loggers)
    pip = [*pip, *(package for name in loggers for package in LOGGERS[name].packages)]
    here, own = root(), is_own(CHECKOUT)
    python = _python(here)
    if own and here.is_relative_to(CHECKOUT):
        return Install(find_code(ref), pip=tuple(pip), python=_python(CHECKOUT))
    named = [module for module in modules_of(specs) if not module.startswith("memexp.")]
    files = [file for module in named if (file := place_of(module)) and not is_installed(file)]
    top = ask_git(here, "rev-parse", "--show-toplevel")
    if not any(is_in_project(file) for file in files) and (find_project(here) is None or not top):
        if own:
            return Install(find_code(ref), pip=tuple(pip), python=_python(CHECKOUT))
        return Install(Code("", "", ()), here, lock="", memexp="wheel", python=python, pip=tuple(pip))
    top = Path(top or here).resolve()
    code = find_code(ref, top)
    if own and (changes := [one for one in find_code().problems if "committed" in one]):
        code = replace(code, problems=(*code.problems, f"memexp: {changes[0]}"))
    lock = next((name for name in LOCKS if (here / name).exists()), "")
    folder, memexp = str(here.resolve().relative_to(top)), "checkout" if own else "wheel"
    return Install(code, top, folder, lock, memexp, python, tuple(pip))


def _python(folder: Path) -> str:
    """The version of Python that nodes use."""
    file = folder / ".python-version"
    if not file.exists():
        return ".".join(platform.python_version_tuple()[:2])
    version, known = next(iter(file.read_text("utf-8").split()), ""), distribution("memexp").metadata["Requires-Python"]
    with suppress(InvalidVersion):
        if version in SpecifierSet(known):
            return version
    raise UsageError(f"{file}: nodes need a Python {known}, such as 3.11, not '{version}'")


def modules_of(specs: Iterable[RunSpec]) -> list[str]:
    """Modules that the runs name: of recipes, environments, wrappers and cells."""
    found: dict[str, None] = {}
    for recipe in dict.fromkeys(spec.recipe for spec in specs):
        found[find_recipe(recipe).module] = None
    for spec in specs:
        env = spec.config.env
        imports = env.imports if isinstance(env, ThirdParty) else []
        found |= dict.fromkeys(module for module, _ in [*imports, *cell_modules(spec.config.cortex.pattern)])
    return list(found)


def check_install(install: Install, modules: Iterable[str]) -> None:
    """Raises UsageError with what nodes would lack of the `modules` of the runs, one line each."""
    own = [one for one in install.pip if canonicalize_name(Requirement(one).name) == "memexp"]
    lines = [f"resources.pip: {one}: nodes get memexp as it is here; leave it out" for one in own]
    lines += dict.fromkeys(_lacking(install, modules))
    if lines:
        raise UsageError("\n".join(["nodes cannot run this:", *lines]))


def _lacking(install: Install, modules: Iterable[str]) -> Iterator[str]:
    if install.lock in LOCKS and install.code.commit and not _is_in_git(install, install.project / install.lock):
        yield f"git does not know {install.lock}, so nodes would not get it: git add it"
    names = [one for one in _locked(install) if not re.match(r"memexp\b", one[0])]
    yield from (text for _, text in names if text)
    covered = _closure(["memexp[gpu]", *install.pip, *(name for name, _ in names)])
    for name, file in dict(_with_imports(origin_of(modules))).items():
        if not is_installed(file):
            yield from _foreign(install, name, file)
            continue
        found = packages_distributions().get(name.partition(".")[0], [])
        if found and (url := _local(distribution(found[0]))):
            yield f"{found[0]} is installed here from {url}: nodes cannot get that"
        elif found and not covered & {canonicalize_name(one) for one in found}:
            where = "pip: in resources" + (f", or {install.lock}" if install.lock in LOCKS else "")
            yield f"{found[0]}, which the runs import, is in no list of packages that nodes install: add it to {where}"


def _with_imports(modules: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """The modules, and the installed packages that those of the user import, with their files; without memexp's."""
    for name in modules:
        if name.partition(".")[0] == "memexp" or not (file := place_of(name)):
            continue
        yield name, file
        if not is_installed(file):
            tops = {one.partition(".")[0] for one in imports_of(file.read_bytes(), name, file)}
            others = sorted(tops - sys.stdlib_module_names - {"memexp"})
            yield from ((top, place) for top in others if (place := place_of(top)) and is_installed(place))


def _foreign(install: Install, name: str, file: Path) -> Iterator[str]:
    """Why nodes would lack a file that is not installed."""
    if not file.is_relative_to(install.top):
        what = "an editable install" if name.partition(".")[0] in packages_distributions() else "a file"
        yield f"{name} is {what} outside of {install.top} ({file}): nodes cannot get it"
    elif not install.code.commit:
        yield f"{install.top} is no git checkout with a commit, so nodes cannot get your files: git init, git commit"
    elif not _is_in_git(install, file):
        yield f"git does not know {file.relative_to(install.top)}, so nodes would not get it: git add it"


def _is_in_git(install: Install, file: Path) -> bool:
    return ask_git(install.top, "ls-files", "--error-unmatch", "--", str(file)) is not None


def _locked(install: Install) -> Iterator[tuple[str, str]]:
    """(requirement, why nodes cannot have it or '') of each package in the project's lock file."""
    if install.lock not in LOCKS:
        return
    file = install.project / install.lock
    text = file.read_text("utf-8")
    if install.lock == "requirements.txt":
        for line in (line.partition(" #")[0].strip() for line in text.splitlines()):
            local = re.match(r"(?:-e|--editable)[ =]+(\S+)|(?:file:(?://)?)?([./]\S*)", line)
            if local and not line.startswith("#"):
                yield "", _outside(install, local[1] or local[2], line)
            elif re.match(r"\w", line):
                yield line, _outside(install, _file_url(line), line) or _unreadable(line, install.lock)
        return
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: {error}") from None
    if install.lock == "uv.lock":
        for package in data.get("package", []):
            source = package.get("source", {})
            place = next((str(source[kind]) for kind in ("editable", "directory", "path") if kind in source), "")
            yield package["name"], _outside(install, place, f"{package['name']} in uv.lock")
        locked = {canonicalize_name(package["name"]) for package in data.get("package", [])}
        mark = install.project / MARK
        for line in _dependencies(tomllib.loads(mark.read_text("utf-8"))) if mark.exists() else []:
            with suppress(InvalidRequirement):
                if canonicalize_name(one := Requirement(line).name) not in locked | {"memexp"}:
                    yield "", f"uv.lock lacks {one}, which pyproject.toml lists: uv lock"
        return
    for line in _dependencies(data):
        yield line, _outside(install, _file_url(line), line)
    sources: dict[str, Any] = data.get("tool", {}).get("uv", {}).get("sources", {})
    for name, source in sources.items():
        place = cast(dict[str, Any], source).get("path", "") if isinstance(source, dict) else ""
        yield name, _outside(install, place, f"{name} in [tool.uv.sources]")


def _dependencies(data: dict[str, Any]) -> list[str]:
    """Requirements that a pyproject.toml lists."""
    return data.get("project", {}).get("dependencies", [])


def _unreadable(line: str, file: str) -> str:
    """A message if `line` of a requirements.txt names no package."""
    try:
        _without_hashes(line)
    except InvalidRequirement:
        return f"{file}: '{line}' is no requirement, such as minigrid>=3.0"
    return ""


def _without_hashes(line: str) -> Requirement:
    return Requirement(re.split(r"\s--hash|\\", line)[0])


def _file_url(line: str) -> str:
    return line.partition("file:")[2].removeprefix("//").split(";")[0].strip()


def _outside(install: Install, place: str, what: str) -> str:
    """A message if `place` is a path that is not among the files that nodes get."""
    path = (install.project / place).resolve()
    if place and not path.is_relative_to(install.top):
        return f"{what} is the path {place} of this machine, outside of {install.top}: nodes cannot get it"
    return f"{what}: there is no {path}" if place and not path.exists() else ""


def _closure(requirements: Iterable[str]) -> set[str]:
    """Names of the packages that the requirements need here, themselves included."""
    todo, found = list(requirements), set[str]()
    seen = set[str]()
    while todo:
        text = todo.pop()
        if text in seen:
            continue
        seen.add(text)
        try:
            one = _without_hashes(text)
        except InvalidRequirement:
            continue
        found.add(canonicalize_name(one.name))
        for need in _requires(canonicalize_name(one.name)):
            marker = need.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*one.extras, "")):
                need.marker = None
                todo.append(str(need))
    return found


@cache
def _needs(name: str) -> tuple[str, ...]:
    try:
        return tuple(distribution(name).requires or ())
    except PackageNotFoundError:
        return ()


def _requires(name: str) -> list[Requirement]:
    return [Requirement(need) for need in _needs(name)]


def _local(one: Distribution) -> str:
    """The path from which a package was installed; empty if it came from an index or a repository."""
    url = json.loads(one.read_text("direct_url.json") or "{}").get("url", "")
    return url.removeprefix("file://") if url.startswith("file:") else ""


def _wheel(one: Distribution) -> Path:
    """A folder below $MEMEXP_HOME with the wheel of an installed package, made of its files.

    Raises LaunchError for an editable install, whose files are elsewhere.
    """
    files = [file for file in one.files or () if ".." not in file.parts and file.suffix != ".pyc"]
    skipped = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
    files = [file for file in files if not (file.parent.name.endswith(".dist-info") and file.name in skipped)]
    if not any(file.parts[0] == one.name for file in files):
        raise LaunchError(f"{one.name} is an editable install outside of git: nodes cannot get it; install its wheel")
    data = {str(file): Path(str(one.locate_file(file))).read_bytes() for file in files}
    digest = hashlib.sha256(b"".join(data[name] for name in sorted(data))).hexdigest()[:10]
    folder = (home() / "snapshots" / f"{one.name}-{one.version}-{digest}").resolve()
    if folder.exists():
        return folder
    info = next(file.parts[0] for file in files if file.parts[0].endswith(".dist-info"))
    record = [f"{name},sha256={_hash(text)},{len(text)}\n" for name, text in data.items()]
    data[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"]).encode()
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        with zipfile.ZipFile(beside / f"{one.name}-{one.version}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
            for name, text in data.items():
                wheel.writestr(name, text)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
