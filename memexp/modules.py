"""What a user names by its module: an environment, a wrapper, a cell. Installed packages first, then the project."""

import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from memexp.config import UsageError, did_you_mean
from memexp.project import import_named


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
        raise UsageError(f"{what}: {module.__name__} has no '{name}'{did_you_mean(name, offered(module, wanted))}")
    _refuse(home_of(found, module.__name__), what, wanted)
    return found


METHODS = {"cells": ("init_state", "forward"), "environments": ("reset", "step")}


def offered(module: ModuleType, wanted: str) -> list[str]:
    """Names of a module that can be what is wanted: classes with its methods, and functions that make environments."""

    def fits(value: Any) -> bool:
        if inspect.isfunction(value):
            return wanted != "cells" and value.__module__ == module.__name__
        return callable(value) and all(hasattr(value, method) for method in METHODS[wanted])

    return [name for name, value in vars(module).items() if not name.startswith("_") and fits(value)]


def _refuse(module: str, what: str, wanted: str) -> None:
    try:
        refuse_standard_library(module, wanted)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from None


def home_of(found: Any, named: str) -> str:
    """The module in which a class or function is defined, which may be another than the one that `named` it."""
    defined = inspect.isclass(found) or inspect.isroutine(found)
    return (getattr(found, "__module__", None) if defined else None) or named


def one_line(error: BaseException) -> str:
    """The text of an error, on one line."""
    return " ".join(str(error).split())
