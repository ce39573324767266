"""The user's project: the folder whose modules and recipes memexp finds, after everything that is installed.

A project is the nearest folder, upwards from the matrix file or from where memexp is called, whose pyproject.toml has
a table `[tool.memexp]`. Without one it is the folder of the matrix file and the current folder.
"""

import importlib
import os
import re
import sys
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from memexp.config import UsageError

MARK = "pyproject.toml"
VARIABLE = "MEMEXP_PROJECT"
"""Environment variable: the folders of the project of the process that started this one."""


def find_project(start: Path) -> Path | None:
    """The nearest folder from `start` upwards whose pyproject.toml has a table [tool.memexp]; None if there is none.

    The search ends at a folder into which everybody may write, such as /tmp. Raises UsageError for a file with such a
    table that cannot be read.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        try:
            if folder != start and folder.stat().st_mode & 0o002:
                return None
            text = (folder / MARK).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if "memexp" in text:
            try:
                if "memexp" in tomllib.loads(text).get("tool", {}):
                    return folder
            except tomllib.TOMLDecodeError as error:
                raise UsageError(f"{folder / MARK}: {error}") from None
    return None


def _folders(starts: Sequence[Path]) -> list[str]:
    found = next(filter(None, map(find_project, starts)), None)
    return [str(folder) for folder in dict.fromkeys([found] if found else [start.resolve() for start in starts])]


class ProjectFinder:
    """Finds modules in the project, if they are nowhere else: no file there takes a package's place.

    The end of sys.path is too early for that: packages that are installed as editable are found after sys.path.
    """

    given: ClassVar[list[str]] = [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
    folders: ClassVar[list[str]] = given or [os.getcwd()]

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, cls.folders) if path is None else None


def enter(*starts: Path) -> None:
    """Make the project of the first of `starts` that is in one the project of this process; else `starts` themselves.

    Where another memexp started this process, its project stays. Raises UsageError as `find_project` does.
    """
    if not ProjectFinder.given:
        ProjectFinder.folders = _folders(starts)


def root() -> Path:
    """The project's folder."""
    return Path(ProjectFinder.folders[0])


def variables() -> dict[str, str]:
    """Environment variables that tell a process the project."""
    return {VARIABLE: os.pathsep.join(ProjectFinder.folders)}


@cache
def entries(group: str) -> dict[str, str]:
    """Name -> 'module:attribute' or 'module' of the entry points `memexp.<group>` of installed packages."""
    return {one.name: re.sub(r"\s|\[.*", "", one.value) for one in sorted(entry_points(group=f"memexp.{group}"))}


def import_named(name: str, what: str, prefix: str = "") -> ModuleType:
    """The module of this name, or with `prefix` before it. The project is searched last.

    Raises UsageError, which begins with `what`: for a module that does not exist or cannot be imported.
    """
    search()
    for candidate in dict.fromkeys((name, prefix + name)):
        try:
            return importlib.import_module(candidate)
        except ModuleNotFoundError as error:
            missing = error.name or candidate
            if not f"{candidate}.".startswith(f"{missing}."):  # the module imports something that is missing
                raise UsageError(f"{what}: {candidate} needs '{missing}', which is not installed") from None
        except (Exception, SystemExit) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"{what}: {candidate} cannot be imported: {type(error).__name__}: {reason}") from error
    raise UsageError(f"{what}: there is no module '{name}' here: install its package, or start in its folder")


def search() -> None:
    """Have imports, and questions where a module is, look into the project too."""
    if ProjectFinder not in sys.meta_path:
        sys.meta_path.append(ProjectFinder)


def place_of(module: str) -> Path | None:
    """The file of a module, or the folder of a package without one; None if it is nowhere. Nothing is imported."""
    file, folders = _find(module)
    place = file or next(iter(folders), None)
    return Path(place).resolve() if place else None


def file_of(module: str) -> Path | None:
    """The file of a module; None for a package without one. Nothing is imported."""
    file, _ = _find(module)
    return Path(file) if file else None


def module_in(word: str) -> str:
    """The module before the colon of a word, if there is one of this name that is not Python's own; '' if not."""
    name = word.partition(":")[0].removesuffix(".py")
    is_own = re.fullmatch(r"[^\W\d][\w.]*", name) and name.partition(".")[0] not in sys.stdlib_module_names
    return name if is_own and file_of(name) else ""


def refuse_module(word: str, what: str) -> None:
    """Raises UsageError for the name of a module where something in it is meant."""
    if ":" not in word and (module := module_in(word)):
        raise UsageError(f"'{word}' is a module; write {module}:CLASS for {what} in it")


def _find(module: str) -> tuple[str | None, Sequence[str]]:
    """The file of a module, loaded or not, and the folders of the modules in it."""
    if module in sys.modules:
        loaded = sys.modules[module]
        return getattr(loaded, "__file__", None), getattr(loaded, "__path__", None) or ()
    parent, _, name = module.rpartition(".")
    inside = _find(parent)[1] if parent else None
    if inside is None:
        spec = find_spec(module) or ProjectFinder.find_spec(module)
    else:
        spec = PathFinder.find_spec(name, [*inside]) if inside else None
    return (spec.origin if spec.has_location else None, spec.submodule_search_locations or ()) if spec else (None, ())


def is_installed(file: Path) -> bool:
    """Whether a file belongs to an installed package."""
    return any(part in ("site-packages", "dist-packages") for part in file.parts)


def is_in_project(file: Path) -> bool:
    """Whether a file is below the project's folders."""
    return any(file.is_relative_to(Path(folder).resolve()) for folder in ProjectFinder.folders)
