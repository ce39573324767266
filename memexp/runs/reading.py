"""Reads the files of a run directory, which a crash, a full disk or another program may have damaged.

Whatever is wrong with a file becomes one DamagedError, whose message names the file and the reason in one line.
"""

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import yaml
from pydantic import BaseModel

from memexp.config import UsageError, parse_model

MAX_BYTES = 32 << 20
"""Largest JSON file that is read. The largest that a run has is a provenance.json with the changes of many starts."""
MAX_YAML_BYTES = 256 << 10
"""Largest config.yaml that is read: usual are 3 KiB, and YAML is slow to read."""

MAX_DEPTH = 100
"""Most levels of a config.yaml: libyaml's loader would overflow the stack."""

Model = TypeVar("Model", bound=BaseModel)


class DamagedError(ValueError):
    """A file cannot be read as what it should be."""

    def __init__(self, path: Path, why: str):
        super().__init__(f"{path.name} cannot be read: {why}")
        self.path = path


def open_file(path: Path, max_bytes: int | None = None) -> BinaryIO:
    """`path`, open for reading. Raises FileNotFoundError.

    Raises DamagedError for a directory, pipe or device, of which a reader might wait for the end forever, and for a
    file that is larger than `max_bytes`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer would block
    found = os.fstat(descriptor)
    problem = None if stat.S_ISREG(found.st_mode) else "it is a directory, a pipe or a device"
    if max_bytes is not None and found.st_size > max_bytes:
        problem = f"it has {found.st_size:,} bytes, at most {max_bytes:,} make sense"
    if problem:
        os.close(descriptor)
        raise DamagedError(path, problem)
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, max_bytes: int | None = None) -> bytes:
    """The content of a file; raises as `open_file` does."""
    with open_file(path, max_bytes) as file:
        return file.read()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises FileNotFoundError and DamagedError."""
    return _mapping(path, "JSON", lambda: json.loads(_text(path, MAX_BYTES)))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a file that `yaml.safe_dump` wrote. Raises FileNotFoundError and DamagedError."""
    return _mapping(path, "YAML", lambda: _plain_yaml(_text(path, MAX_YAML_BYTES)))


def read_model(kind: type[Model], path: Path) -> Model:
    """The JSON object in a file as a `kind`. Raises FileNotFoundError, and DamagedError, which names a wrong field."""
    try:
        return parse_model(kind, read_json(path))
    except UsageError as error:
        raise DamagedError(path, str(error).splitlines()[0]) from None


def _text(path: Path, max_bytes: int) -> str:
    data = read_bytes(path, max_bytes)
    if not data.strip(b"\0 \t\r\n"):
        raise DamagedError(path, "it holds nothing but NUL bytes" if b"\0" in data else "it is empty")
    return data.decode()


def _mapping(path: Path, language: str, load: Any) -> dict[str, Any]:
    """What `load` returns, if it is a dictionary."""
    try:
        value = load()
    except DamagedError:
        raise
    except RecursionError:
        raise DamagedError(path, "it is nested too deeply") from None
    except (ValueError, yaml.YAMLError) as error:
        where = " ".join(str(getattr(error, "problem", None) or error).split())
        raise DamagedError(path, f"it is not valid {language} ({where})") from None
    if not isinstance(value, dict):
        raise DamagedError(path, "it holds no fields")
    return cast(dict[str, Any], value)


_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where PyYAML has it: nine times as fast."""


def _plain_yaml(text: str) -> Any:
    """A document without aliases (a few lines of them can stand for gigabytes, and no file of ours has any)."""
    depth = 0
    events = cast(Iterable[object], yaml.parse(text, Loader=_SafeLoader))  # pyright: ignore[reportUnknownMemberType]
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RecursionError
    return yaml.load(text, Loader=_SafeLoader)
