"""Typed configuration: a strict pydantic base, dotted overrides, and errors that name the nearest right word.

Words come from the command line as text (`trainer.total_timesteps=2b`) and from matrix files as YAML values; both
are turned into values by the annotation of the field or argument that they are bound to.
"""

import difflib
import inspect
import itertools
import os
import re
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Self, TypeVar, get_args, get_origin

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


class UsageError(ValueError):
    """What the user typed is wrong: the message names the wrong word and the nearest right one (exit code 2)."""


CORES = "MEMEXP_CORES"
"""Environment variable: the cores that a run's processes may use together, where several runs share a machine."""


def cores_left(most: int) -> int:
    """How many of `most` cores CORES leaves to this run. Raises UsageError where that is no number above 0."""
    given = os.environ.get(CORES, str(most))
    if not given.isdecimal() or int(given) < 1:
        raise UsageError(f"{CORES}={given} is not a number of cores")
    return min(most, int(given))


LISTED = 30
"""Most options that are listed where none is near."""


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """'; did you mean 'x'?' for the option nearest to `word`, else the list of options, else nothing."""
    options = sorted({str(option) for option in options})
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    if near:
        return f"; did you mean '{near[0]}'?"
    more = f" and {len(options) - LISTED} more" if len(options) > LISTED else ""
    return f"; known: {', '.join(options[:LISTED])}{more}" if options else ""


_COUNT = re.compile(r"^([+-]?\d[\d_]*(?:\.\d+)?(?:[eE]\+?\d+)?)([kmbKMB]?)$")
MAX_DIGITS = 30
"""Digits before the point of the largest number that is taken for a count."""
_MAGNITUDE = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


def parse_count(value: Any) -> Any:
    """2_000_000, '2b', '500m', '64k', '1.5m' or '2e9' as an int; anything else is left for pydantic to judge."""
    if isinstance(value, str) and (match := _COUNT.match(value.strip())):
        number, magnitude = match.groups()
        exact = Decimal(number.replace("_", ""))
        if exact.adjusted() > MAX_DIGITS:
            return value
        exact *= _MAGNITUDE[magnitude.lower()]
        return int(exact) if exact == int(exact) else float(exact)
    return value


def count_name(count: int) -> str:
    """A count as people write it: 2000000000 -> '2b', 500000000 -> '500m', 96000 -> '96k', 1234 -> '1234'."""
    for suffix in ("b", "m", "k"):
        if count and count % _MAGNITUDE[suffix] == 0:
            return f"{count // _MAGNITUDE[suffix]}{suffix}"
    return str(count)


Count = Annotated[int, BeforeValidator(parse_count)]
"""A whole number that may be written '2b', '500m', '64k' or '2_000_000'."""


_NAME = re.compile(r"[a-zA-Z](?:[-_.a-zA-Z0-9]*[a-zA-Z0-9])?")
MAX_NAME = 120
"""Longest run name, characters: SkyPilot derives cluster names and paths from it."""


def check_run_name(name: str) -> str:
    """`name` if SkyPilot and every file system accept it (letters, digits, '-', '_', '.'; begins with a letter).

    Raises UsageError that names the first character that cannot stand there.
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
"""A run's name: its identity, its directory, its SkyPilot job."""


class Config(BaseModel):
    """Base of every config: unknown keys are refused with a suggestion, defaults and assignments are validated."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            known = set(cls.model_fields)
            known |= {f.alias for f in cls.model_fields.values() if f.alias}
            for key in data:
                if key not in known:
                    raise ValueError(f"unknown key '{key}'{did_you_mean(str(key), known)}")
        return data

    @classmethod
    def parse(cls, data: Any, where: str = "") -> Self:
        """`data` as this config; raises UsageError with one line per mistake. `where` names the source (a file)."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise UsageError(explain(error, where)) from None


C = TypeVar("C", bound=Config)


def explain(error: ValidationError, where: str = "") -> str:
    """One line per mistake of a pydantic error: place, what is wrong, what was given."""
    lines = []
    for loc, group in itertools.groupby(error.errors(), _value_of):
        item, *others = group
        place = ".".join(str(part) for part in loc if not str(part).startswith("function-"))
        message = " or ".join(dict.fromkeys(one["msg"].removeprefix("Value error, ") for one in (item, *others)))
        given = item.get("input")
        if isinstance(given, (str, int, float, bool)) and f"'{given}'" not in message:
            message += f" (got {given!r})"
        lines.append(": ".join(part for part in (where, place, message) if part))
    return "\n".join(lines)


_TYPE = re.compile(r"(str|int|float|bool|none|constrained-\w+|(list|dict)\[.*\])")
"""How pydantic names the types of a union, behind the place of the value."""


def _value_of(item: Any) -> tuple[int | str, ...]:
    """The place of the value that an error is about, whichever type of a union it was held against."""
    *above, last = item["loc"] or ("",)
    return tuple(above) if _TYPE.fullmatch(str(last)) else item["loc"]


def parse_words(words: Iterable[str]) -> dict[str, str]:
    """['pattern=S', 'mem_len=0'] -> {'pattern': 'S', 'mem_len': '0'}.

    Raises UsageError for a word without '=' and for a key given twice with different values.
    """
    pairs: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"'{word}' is not KEY=VALUE")
        if key in pairs and pairs[key] != value:
            raise UsageError(f"'{key}' is given twice: {pairs[key]} and {value}")
        pairs[key] = value
    return pairs


def _from_text(text: Any, annotation: Any) -> Any:
    """Text as the value it stands for, as far as the annotation leaves it open; pydantic does the rest."""
    if not isinstance(text, str):
        return text
    kinds = _kinds(annotation)
    if type(None) in kinds and text.lower() in ("none", "null"):
        return None
    if text[:1] in ("[", "{") or kinds & {list, tuple, dict, set}:
        value = yaml.safe_load(text)
        if isinstance(value, str) and kinds & {list, tuple, set} and str not in kinds:
            value = [part.strip() for part in text.split(",")]
        elif not isinstance(value, (list, dict, str, type(None))) and kinds & {list, tuple, set}:
            value = [value]
        return [parse_count(v) for v in value] if isinstance(value, list) else value
    return parse_count(text) if kinds & {int, float} else text


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation allows: `Annotated[int | None, ...]` -> {int, NoneType}."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return set().union(*map(_kinds, get_args(annotation)))
    return {origin or annotation}


def parse_value(text: Any, annotation: Any, name: str) -> Any:
    """`text` as a value of type `annotation`: '2b' -> int, 'true' -> bool, '1,2' -> list; UsageError names `name`."""
    try:
        if annotation is inspect.Parameter.empty or annotation is Any:
            return yaml.safe_load(text) if isinstance(text, str) else text
        return TypeAdapter(annotation).validate_python(_from_text(text, annotation))
    except ValidationError as error:
        raise UsageError(explain(error, name)) from None
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "it is not valid YAML"
        raise UsageError(f"{name}: '{text}' cannot be read: {problem}") from None


def bind_arguments(function: Callable[..., Any], words: Mapping[str, Any]) -> dict[str, Any]:
    """The undotted `words` as keyword arguments of `function`, typed by its annotations.

    Raises UsageError for a word that is no argument, with the nearest one that is.
    """
    parameters = inspect.signature(function, eval_str=True).parameters
    arguments = {}
    for name, text in words.items():
        if name not in parameters:
            raise UsageError(f"unknown argument '{name}'{did_you_mean(name, parameters)}")
        arguments[name] = parse_value(text, parameters[name].annotation, name)
    return arguments


def override(config: C, words: Mapping[str, Any]) -> C:
    """A copy of `config` with dotted keys replaced (`{"trainer.total_timesteps": "2b"}`), validated as a whole.

    Raises UsageError for a key that does not exist (with the nearest that does) or a value of the wrong type.
    """
    data = config.model_dump()
    for key, text in words.items():
        node, values, annotation = config, data, None
        *path, last = key.split(".")
        for depth, part in enumerate(path):
            _require_field(node, part, key)
            below = getattr(node, part)
            if not isinstance(below, Config):
                raise UsageError(f"'{'.'.join(path[: depth + 1])}' in '{key}' has no keys of its own")
            node, values = below, values[part]
        _require_field(node, last, key)
        field = type(node).model_fields[last]
        annotation = field.annotation
        if isinstance(getattr(node, last), Config) and isinstance(text, str):
            raise UsageError(f"'{key}' is a group of keys{_members(getattr(node, last), key)}")
        metadata = tuple(field.metadata)
        typed = Annotated[(annotation, *metadata)] if metadata else annotation
        values[last] = parse_value(text, typed, key)
    return type(config).parse(data)


def _require_field(node: Config, part: str, key: str) -> None:
    if part not in type(node).model_fields:
        place = f" in '{key}'" if part != key else ""
        raise UsageError(f"unknown key '{part}'{place}{did_you_mean(part, type(node).model_fields)}")


def _members(node: Config, key: str) -> str:
    return ": " + ", ".join(f"{key}.{name}" for name in type(node).model_fields)


def read_yaml(path: Any) -> Any:
    """The YAML document in `path`; UsageError names the file and line when it is missing or malformed."""
    try:
        with open(path, encoding="utf-8") as file:
            return yaml.load(file, Loader=_UniqueKeys)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None


class _UniqueKeys(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice instead of keeping the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *anchor`: what is merged stands behind the own keys
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, f"{key} cannot be a key", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
