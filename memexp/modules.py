"""What a user names by its module: an environment, a wrapper, a cell. Installed packages first, then this folder."""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from memexp.config import UsageError, did_you_mean


def refuse_standard_library(module: str, wanted: str = "environments") -> None:
    """Raises ValueError for a module of Python's own, or of the program that runs: they have nothing of `wanted`."""
    top = module.partition(".")[0]
    if top in (*sys.stdlib_module_names, "__main__", "test"):
        own = f"; rename your {top}.py, which Python's own hides" if Path(f"{top}.py").exists() else ""
        raise ValueError(f"'{module}' belongs to Python itself, which has no {wanted}{own}")


def call(make: Callable[..., Any], options: dict[str, Any], name: str) -> Any:
    """make(**options). Raises UsageError, with the line of the user's code, for whatever it raises."""
    try:
        return make(**options)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{name} cannot be made: {type(error).__name__}: {one_line(error)}{where_raised(error)}"
        ) from error


def where_raised(error: BaseException) -> str:
    """The line of the user's own code that raised the error; empty if other code did."""
    frame = traceback.extract_tb(error.__traceback__, limit=-1)[-1]
    file = Path(frame.filename)
    others = file == Path(__file__) or {"gymnasium", "torch"} & set(file.parts)
    return "" if others else f" ({frame.filename}, line {frame.lineno})"


def find(place: str, what: str, wanted: str = "environments") -> Callable[..., Any]:
    """The callable that `place` names, MODULE:CALLABLE. Raises UsageError, which begins with `what`."""
    module, colon, name = place.partition(":")
    if not colon or not name:
        raise UsageError(f"{what} is not MODULE:CALLABLE")
    _refuse(module, what, wanted)
    return member(import_named(module, what), name, what, wanted)


def member(module: ModuleType, name: str, what: str, wanted: str = "environments") -> Callable[..., Any]:
    """The callable of this name in a module. Raises UsageError if there is none, or if it is Python's own."""
    found = getattr(module, name, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"{what}: {module.__name__} has no '{name}'{did_you_mean(name, known)}")
    _refuse(home_of(found, module.__name__), what, wanted)
    return found


def _refuse(module: str, what: str, wanted: str) -> None:
    try:
        refuse_standard_library(module, wanted)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from None


def home_of(found: Any, named: str) -> str:
    """The module in which a class or function is defined, which may be another than the one that `named` it."""
    defined = inspect.isclass(found) or inspect.isroutine(found)
    return (getattr(found, "__module__", None) if defined else None) or named


def import_named(name: str, what: str, prefix: str = "") -> ModuleType:
    """The module of this name, or with `prefix` before it. The working directory is searched last."""
    if ProjectFinder not in sys.meta_path:
        sys.meta_path.append(ProjectFinder)
    for candidate in dict.fromkeys((name, prefix + name)):
        try:
            return importlib.import_module(candidate)
        except ModuleNotFoundError as error:
            missing = error.name or candidate
            if not f"{candidate}.".startswith(f"{missing}."):  # the module imports something that is missing
                raise UsageError(f"{what}: {candidate} needs '{missing}', which is not installed") from None
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{what}: {candidate} cannot be imported: {type(error).__name__}: {one_line(error)}"
            ) from error
    raise UsageError(f"{what}: there is no module '{name}' here: install its package, or start in its folder")


class ProjectFinder:
    """Finds modules in the working directory, if they are nowhere else: no file there takes a package's place.

    The end of sys.path is too early for that: packages that are installed as editable are found after sys.path.
    """

    folder = os.getcwd()

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [cls.folder]) if path is None else None


def one_line(error: BaseException) -> str:
    """The text of an error, on one line."""
    return " ".join(str(error).split())
