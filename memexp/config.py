"""Typed configuration: a strict pydantic base, dotted overrides, and errors that name the nearest valid name.

Overrides are text on the command line (`trainer.total_timesteps=2b`) and YAML values in matrix files. The annotation of
the field or argument decides how both are converted.
"""

import difflib
import inspect
import itertools
import os
import re
import traceback
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, cast, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from memexp import strict_yaml


class EnvError(RuntimeError):
    """A third-party environment failed. The message says what it did, or holds its own traceback."""


class UsageError(ValueError):
    """Wrong input from the user: the message names the wrong word and the nearest right one (exit code 2)."""


def exit_text(stop: SystemExit) -> str:
    """Where somebody else's code called sys.exit, and with what."""
    frame = traceback.extract_tb(stop.__traceback__, limit=-1)[-1]  # without a limit, sys.tracebacklimit counts
    return f"sys.exit({stop.code!r}) was called ({frame.filename}, line {frame.lineno})"


CORES = "MEMEXP_CORES"
"""Environment variable: how many cores all processes of a run may use, if several runs share a machine."""


def cores_left(most: int) -> int:
    """The smaller of `most` and the value of CORES. Raises UsageError if CORES is not a positive integer."""
    given = os.environ.get(CORES, str(most))
    if not given.isdecimal() or int(given) < 1:
        raise UsageError(f"{CORES}={given} is not a number of cores")
    return min(most, int(given))


def path_in(variable: str, default: str | Path) -> Path:
    """The path in an environment variable with `~` and $VARIABLES expanded; `default` if it is empty or not set.

    Raises UsageError for a user or a variable that is not known here.
    """
    given = os.environ.get(variable) or str(default)
    path = os.path.expandvars(os.path.expanduser(given))
    if unknown := re.search(r"^~[^/]*|\$\w+|\$\{\w+\}", path):
        raise UsageError(f"{variable}={given}: {unknown[0]} is not known on this machine")
    return Path(path)


RANK_VARIABLES = re.compile(
    r"(GROUP_|LOCAL_|ROLE_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|(TORCHELASTIC|PET)_\w+"
)
"""Environment variables that torchrun gives to the ranks of a run, or reads."""


MAX_LISTED = 30
"""Most options that `did_you_mean` lists if none is near."""


def did_you_mean(word: str, options: Iterable[str], label: str = "known") -> str:
    """'; did you mean 'x'?' for the option nearest to `word`, else the list of options, else nothing."""
    options = sorted({str(option) for option in options})
    lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    near += [one for one in lower if len(one) > 2 and word.lower().startswith(one)]
    if near:
        return f"; did you mean '{lower[near[0]]}'?"
    more = f" and {len(options) - MAX_LISTED} more" if len(options) > MAX_LISTED else ""
    return f"; {label}: {', '.join(options[:MAX_LISTED])}{more}" if options else ""


_COUNT = re.compile(r"^([+-]?\d[\d_]*(?:\.\d+)?(?:[eE]\+?\d+)?)([kmbKMB]?)$")
MAX_DIGITS = 30
"""Most digits before the decimal point of a count."""
_MAGNITUDE = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


def parse_count(value: Any) -> Any:
    """2_000_000, '2b', '500m', '64k', '1.5m' or '2e9' as an int; anything else unchanged, for pydantic to check.

    Raises ValueError for a boolean, which pydantic would take for 0 or 1.
    """
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not a number")
    if isinstance(value, str) and (match := _COUNT.match(value.strip())):
        number, magnitude = match.groups()
        exact = Decimal(number.replace("_", ""))
        if exact.adjusted() > MAX_DIGITS:
            return value
        exact *= _MAGNITUDE[magnitude.lower()]
        return int(exact) if exact == int(exact) else float(exact)
    return value


def count_name(count: int) -> str:
    """A short form of a count: 2000000000 -> '2b', 500000000 -> '500m', 96000 -> '96k', 1234 -> '1234'."""
    for suffix in ("b", "m", "k"):
        if count and count % _MAGNITUDE[suffix] == 0:
            return f"{count // _MAGNITUDE[suffix]}{suffix}"
    return str(count)


Count = Annotated[int, BeforeValidator(parse_count)]
"""A whole number that may be written '2b', '500m', '64k' or '2_000_000'."""


def check_levels(ceiling: float | None, solved: float | None, random: float | None = None) -> None:
    """Raises UsageError if a level contradicts another: random below solved, which may be the ceiling."""
    known = {"ceiling_return": ceiling, "solved_return": solved, "random_return": random}
    stated = [(name, value) for name, value in known.items() if value is not None]
    for (above, high), (below, low) in itertools.combinations(stated, 2):
        if low > high or (below == "random_return" and low == high):
            how = "is above" if low > high else "equals"
            raise UsageError(f"{below} {low:.10g} {how} {above} {high:.10g}")


_NAME = re.compile(r"[a-zA-Z](?:[-_.a-zA-Z0-9]*[a-zA-Z0-9])?")
MAX_RUNS = 2_000
"""Most runs that are planned at once."""
MAX_NAME = 120
"""Longest run name, characters: SkyPilot derives cluster names and paths from it."""


def check_run_name(name: str) -> str:
    """`name`, if SkyPilot and every file system accept it: letters, digits, '-', '_', '.', and a letter first.

    Raises UsageError, which names the first wrong character.
    """
    if not name:
        raise UsageError("the run name is empty")
    if len(name) > MAX_NAME:
        raise UsageError(f"run name '{name}' has {len(name)} characters; {MAX_NAME} is the most")
    if not _NAME.fullmatch(name):
        bad = next((c for c in name if not re.match(r"[-_.a-zA-Z0-9]", c)), None)
        if bad:
            near = re.sub(r"[^-_.a-zA-Z0-9]", "-", name).strip("-_.")
            raise UsageError(f"run name '{name}' contains '{bad}'; did you mean '{near}'?")
        raise UsageError(f"run name '{name}' must begin with a letter and end with a letter or digit")
    return name


RunName = Annotated[str, AfterValidator(check_run_name)]
"""A run's name identifies the run, its directory and its SkyPilot job."""


class Config(BaseModel):
    """Base of every config. It refuses unknown keys with a suggestion and validates defaults and assignments."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known_and_numbers_no_booleans(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key, value in data.items():
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key '{key}'{did_you_mean(str(key), cls.model_fields)}")
                if isinstance(value, bool) and _is_number(cls.model_fields[key].annotation):
                    raise ValueError(f"{key}: {str(value).lower()} is not a number")  # pydantic takes it for 0 or 1
        return data

    @classmethod
    def parse(cls, data: Any, where: str = "") -> Self:
        """`data` as this config; see `parse_model`."""
        return parse_model(cls, data, where)


C = TypeVar("C", bound=Config)
M = TypeVar("M", bound=BaseModel)


def parse_model(model: type[M], data: Any, where: str = "") -> M:
    """`data` as a `model`. Raises UsageError with one line per mistake; `where` names the source (a file)."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UsageError(error_lines(error, where)) from None


_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text, in quotes",
    "list": "a list, such as [a, b]",
    "dictionary": "names with values, such as {a: 1}",
}
"""Pydantic's name of a kind of value -> what to write."""


def plain(message: str) -> str:
    """A message of pydantic in plain words: 'Input should be a valid integer, ...' -> 'must be a whole number'."""
    message = re.sub(r"^Value error, | after validation", "", message)
    message = re.sub(r"\b(Input|String|List|Dictionary) should ", "must ", message)
    return re.sub(
        r"a valid (\w+)( or instance of .*|, (unable|got) .*)?$", lambda kind: _KINDS.get(kind[1], kind[1]), message
    )


def form(pattern: str, what: str) -> AfterValidator:
    """Text of which `pattern` is true; an error says `what` it must be, with an example."""

    def check(text: str) -> str:
        if not re.search(pattern, text):
            raise ValueError(f"'{text}' is no {what}")
        return text

    return AfterValidator(check)


def error_lines(error: ValidationError, where: str = "") -> str:
    """One line per mistake in a pydantic error: its place, what is wrong, the given value."""
    lines = []
    for loc, group in itertools.groupby(error.errors(), _value_of):
        item, *others = group
        place = ".".join(str(part) for part in loc if not str(part).startswith("function-"))
        message = " or ".join(dict.fromkeys(plain(one["msg"]) for one in (item, *others)))
        given = item.get("input")
        if isinstance(given, (str, int, float, bool)) and f"'{given}'" not in message:
            message += f" (got {given!r})"
        lines.append(": ".join(part for part in (where, place, message) if part).replace("\n", "; "))
    return "\n".join(lines)


_TYPE = re.compile(r"(str|int|float|bool|none|constrained-\w+|(list|dict|function-\w+)\[.*\])")
"""The last part of an error's location where pydantic names one type of a union."""


def _value_of(item: Any) -> tuple[int | str, ...]:
    """The location of the wrong value, without the type of a union that pydantic tried."""
    *above, last = item["loc"] or ("",)
    return tuple(above) if _TYPE.fullmatch(str(last)) else item["loc"]


def parse_overrides(overrides: Iterable[str]) -> dict[str, str]:
    """['pattern=S', 'mem_len=0'] -> {'pattern': 'S', 'mem_len': '0'}.

    Raises UsageError for text without '=' and for a key given twice with different values.
    """
    pairs: dict[str, str] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"'{text}' is not KEY=VALUE")
        if key in pairs and pairs[key] != value:
            raise UsageError(f"'{key}' is given twice: {pairs[key]} and {value}")
        pairs[key] = value
    return pairs


def _from_text(text: Any, annotation: Any) -> Any:
    """Text as None, a list, a dict or a count, if the annotation allows it. Pydantic converts the rest."""
    if not isinstance(text, str):
        return text
    kinds = _kinds(annotation)
    # `none` may well be the name of an arm, say.
    if type(None) in kinds and text.lower() in (("null",) if str in kinds else ("none", "null")):
        return None
    numbers, lists = kinds & {int, float}, kinds & {list, tuple, set}
    if text[:1] not in ("[", "{"):
        if str in kinds or not (numbers or lists or dict in kinds):
            return parse_count(text) if numbers else text
        if lists and "," in text:
            text = f"[{text}]"
    value = strict_yaml.read(text)
    if lists and not numbers and not isinstance(value, (list, dict, type(None))):
        value = [value]
    if isinstance(value, list):
        return [parse_count(one) if isinstance(one, str) else one for one in value]
    return parse_count(value) if numbers else value


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation allows: `Annotated[int | None, ...]` -> {int, NoneType}."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return set().union(*map(_kinds, get_args(annotation)))
    return {origin or annotation}


def _is_number(annotation: Any) -> bool:
    kinds = _kinds(annotation)
    return bool(kinds & {int, float}) and bool not in kinds


_adapter = cache(TypeAdapter[Any])
"""Making one takes a hundred times as long as using it."""


def parse_value(text: Any, annotation: Any, name: str) -> Any:
    """`text` as a value of type `annotation`: '2b' -> int, 'true' -> bool, '1,2' -> list; UsageError names `name`."""
    try:
        if annotation is inspect.Parameter.empty or annotation is Any:
            return strict_yaml.read(text) if isinstance(text, str) else text
        return _adapter(annotation).validate_python(_from_text(text, annotation))
    except ValidationError as error:
        raise UsageError(error_lines(error, name)) from None
    except yaml.YAMLError as error:
        if _is_number(annotation) and str(text).isalpha():  # yes, on, off: the reader would advise quotes
            raise UsageError(f"{name}: '{text}' is not a number") from None
        raise UsageError(f"{name}: '{text}' cannot be read: {strict_yaml.problem(error)}") from None
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def bind_arguments(function: Callable[..., Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`overrides` without dots as keyword arguments of `function`, converted by its annotations.

    Raises UsageError for an unknown argument, with the nearest known one.
    """
    parameters = inspect.signature(function, eval_str=True).parameters
    arguments = {}
    for name, text in overrides.items():
        if name not in parameters:
            raise UsageError(f"unknown argument '{name}'{did_you_mean(name, parameters)}")
        arguments[name] = parse_value(text, parameters[name].annotation, name)
    return arguments


def override(config: C, overrides: Mapping[str, Any]) -> C:
    """A copy of `config` with dotted keys replaced (`{"trainer.total_timesteps": "2b"}`), validated as a whole.

    Raises UsageError for a key that does not exist (with the nearest that does) or a value of the wrong type.
    """
    data = config.model_dump()
    for key, text in overrides.items():
        node, values = config, data
        *path, last = key.split(".")
        for depth, part in enumerate(path):
            _check_field(node, part, key)
            below = getattr(node, part)
            if not isinstance(below, Config):
                raise UsageError(f"'{'.'.join(path[: depth + 1])}' in '{key}' has no keys of its own")
            node, values = below, values[part]
        _check_field(node, last, key)
        group = getattr(node, last)
        if isinstance(group, Config) and isinstance(text, str):
            members = ", ".join(f"{key}.{name}" for name in type(group).model_fields)
            raise UsageError(f"'{key}' is a group of keys: {members}")
        field = type(node).model_fields[last]
        annotation = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        values[last] = parse_value(text, annotation, key)
    return type(config).parse(data)


def value_at(data: Any, key: str) -> Any:
    """The value of a dotted key in nested dicts; None if it is not there."""
    for part in key.split("."):
        data = cast(dict[str, Any], data).get(part) if isinstance(data, dict) else None
    return data


def _check_field(node: Config, part: str, key: str) -> None:
    if part not in type(node).model_fields:
        place = f" in '{key}'" if part != key else ""
        raise UsageError(f"unknown key '{part}'{place}{did_you_mean(part, type(node).model_fields)}")


def read_yaml(path: Any, read: Callable[[str], Any] = strict_yaml.read) -> Any:
    """The YAML document in `path`. Raises UsageError, which names the file and line, if it is missing or malformed."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(strict_yaml.MAX_CHARACTERS + 1)
        if len(text) > strict_yaml.MAX_CHARACTERS:
            raise UsageError(f"{path}: there are more than {strict_yaml.MAX_CHARACTERS:,} characters")
        return read(text)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: {strict_yaml.problem(error)}") from None
