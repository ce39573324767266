"""Where the code of an environment, or of cells, comes from: versions of packages, hashes of the user's own files.

Runs whose origins differ played different environments, whatever their names say. Data files and compiled code are not
looked at. Nothing is imported, and what the process has imported before makes no difference.
"""

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import resolve_name
from pathlib import Path

from memexp.pattern import Pattern, cell_modules
from memexp.project import file_of, is_installed

OWN = "memexp"
SHARED = ("memexp.envs", "memexp.envs.base", "memexp.envs.config")
"""Modules that all environments have in common. Knobs stand in config.yaml."""

_NAME, _ALIAS = re.compile(r"[^\W\d]\w*(?:\.\w+)*"), re.compile(r"\s+as\s+\w+")
_GAP, _LINE = r"(?:[ \t]|\\\n)+", r"(?:\\\n|[^\n#])*"
_FROM = rf"from{_GAP}(\.*)([\w.]*){_GAP}import\b(?:{_GAP})?(\([^)]*\)|{_LINE})"
_IMPORT = re.compile(rf"^[ \t]*(?:{_FROM}|import{_GAP}({_LINE}))", re.M)
"""(dots, module, names from it) or (modules) of an import. Text that only looks like one names no module. Every run
does this: it is much faster than a syntax tree."""


def code_of(world: Iterable[str], pattern: Pattern) -> dict[str, dict[str, str]]:
    """`origin_of` the modules of a world, and of the cells in the pattern that are not memexp's own, if there are any.

    Keys are "environment" and "cells", as in run.json.
    """
    cells = origin_of(module for module, _ in cell_modules(pattern))
    return {"environment": origin_of(world), **({"cells": cells} if cells else {})}


def origin_of(modules: Iterable[str]) -> dict[str, str]:
    """Package -> version, and module of the user (or of memexp) -> hash of its source, for the modules of a world.

    A module of the user brings the modules that it imports, as far as they are the user's, too. Contents count, not
    places: two machines with the same code give the same record.
    """
    found, todo = dict[str, str](), list(dict.fromkeys(modules))
    seen = set(todo)
    while todo:
        name = todo.pop()
        file = file_of(name)
        if file is None or name in SHARED:
            continue
        if is_installed(file) and name.partition(".")[0] != OWN:
            package, known = _package(name, file)
            found[package] = known
        elif file.suffix == ".py":
            source = file.read_bytes()
            found[name] = _digest(source)
            new = [one for one in imports_of(source, name, file) if one not in seen and _belongs(one)]
            seen.update(new)
            todo += new
    return dict(sorted(found.items()))


def _package(name: str, file: Path) -> tuple[str, str]:
    """(package, version) of an installed module; of a package that does not say its version, the module's hash."""
    top = name.partition(".")[0]
    try:
        return top, version(top)
    except PackageNotFoundError:
        return name, _digest(file.read_bytes())


def _digest(source: bytes) -> str:
    return hashlib.sha256(source.replace(b"\r\n", b"\n")).hexdigest()[:12]


def _belongs(name: str) -> bool:
    """Whether an imported module is part of the world: any module of the user, but of memexp only its worlds."""
    top = name.partition(".")[0]
    if top == OWN:
        return name.startswith(f"{OWN}.envs.")
    file = None if top in sys.stdlib_module_names else file_of(name)
    return file is not None and not is_installed(file)


def imports_of(source: bytes, module: str, file: Path) -> Iterator[str]:
    """Names of modules that the source of `module` may import, and the packages that it is in."""
    above = [module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)]
    yield from above
    package = module if file.name == "__init__.py" else "".join(above[:1])
    text = _ALIAS.sub("", source.decode(errors="replace"))
    for dots, base, names, modules in _IMPORT.findall(text):
        yield from _NAME.findall(modules)
        if dots or base:
            try:
                base = resolve_name(dots + base, package)
            except ImportError:  # text with more dots than the module has packages
                continue
            yield base
            yield from (f"{base}.{name}" for name in _NAME.findall(names))
