"""From a matrix to its cells: the product of its axes, less what is excluded, as runs with names of their own."""

import itertools
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from memexp.config import UsageError, count_name, did_you_mean, parse_count
from memexp.launch.plan.matrix import TEMPLATE_KEYS, Matrix, as_list, naming
from memexp.launch.plan.recipe import find_recipe, resolve
from memexp.launch.plan.run_spec import RunSpec, make_spec, word_text
from memexp.pattern import remembers

KEYS = ("env", "arch", "arm", "memory", "steps", "seed")
"""What `exclude` and --select may ask of a cell."""


@dataclass(frozen=True)
class Place:
    """Where a cell stands in its matrix."""

    env: str
    arch: str
    memory: str
    """"off" marks the twin."""
    steps: int
    seed: int

    @property
    def arm(self) -> str:
        return self.arch + ("~" if self.memory == "off" else "")

    def fits(self, wanted: Mapping[str, list[Any]]) -> bool:
        return all(getattr(self, key) in values for key, values in wanted.items())

    def __str__(self) -> str:
        return f"env={self.env} arch={self.arm} steps={count_name(self.steps)} seed={self.seed}"


def expand(matrix: Matrix, where: str = "", select: Iterable[str] = ()) -> list[RunSpec]:
    """Every cell of the matrix that is not excluded, and that `select` (KEY=VALUE,...) asks for, in the file's order.

    Raises UsageError naming `where` (the file) and the place for an unknown recipe, argument or pattern, a selection
    that matches nothing, a template that does not give every cell a name of its own, and an empty matrix.
    """
    with naming(where):
        _check_template(matrix)
        places = list(_places(matrix))
        kept = [place for place in places if not any(place.fits(entry) for entry in _exclusions(matrix))]
        if not kept:
            raise UsageError(f"exclude leaves none of {len(places)} cells")
    kept = _select(kept, select)
    cells: dict[str, tuple[Place, RunSpec]] = {}
    with naming(where):
        for place in kept:
            cell = _cell(matrix, place)
            if cell.run in cells:
                first = cells[cell.run][0]
                raise UsageError(f"run: two cells are called '{cell.run}': ({first}) and ({place})")
            cells[cell.run] = (place, cell)
    return [cell for _, cell in cells.values()]


def _places(matrix: Matrix) -> Iterator[Place]:
    for env, arch in itertools.product(matrix.environments, matrix.architectures):
        twin = matrix.twins and _has_memory(matrix, env, arch)
        for steps, memory, seed in itertools.product(
            matrix.steps, ("on", "off") if twin else ("on",), matrix.seed_list
        ):
            yield Place(env, arch, memory, steps, seed)


def _has_memory(matrix: Matrix, env: str, arch: str) -> bool:
    """Whether the architecture remembers, and is not itself without memory."""
    with naming(f"environments.{env}.recipe"):
        recipe = find_recipe(matrix.environments[env].recipe)
    with naming(f"cell env={env} arch={arch}"):
        words = {key: word_text(value) for key, value in _words(matrix, env, arch).items()}
        cortex = resolve(recipe, words).cortex
    return cortex.memory == "on" and remembers(cortex.pattern, cortex.mem_len)


def _words(matrix: Matrix, env: str, arch: str) -> dict[str, Any]:
    return {**matrix.environments[env].args, **matrix.architectures[arch], **matrix.overrides}


def _cell(matrix: Matrix, place: Place) -> RunSpec:
    arch = place.arch + ("-off" if place.memory == "off" else "")
    words = {"name": matrix.name, "env": place.env, "arch": arch, "steps": count_name(place.steps), "seed": place.seed}
    name = matrix.run.format(**matrix.vars, **words)
    with naming(f"cell {place}"):
        return make_spec(
            find_recipe(matrix.environments[place.env].recipe),
            {
                **_words(matrix, place.env, place.arch),
                **({"cortex.memory": "off"} if place.memory == "off" else {}),
                "trainer.total_timesteps": place.steps,
                "seed": place.seed,
                "run": name,
                "labels.matrix": matrix.name,
                "labels.env": place.env,
                "labels.arm": place.arm,
            },
        )


# Filters: {key: values} over the keys of a place.


def _exclusions(matrix: Matrix) -> list[dict[str, list[Any]]]:
    exclusions = []
    for number, entry in enumerate(matrix.exclude):
        with naming(f"exclude[{number}]"):
            if not entry:
                raise UsageError("the entry is empty and would leave out everything")
            exclusions.append(_wanted({key: as_list(value) for key, value in entry.items()}))
    return exclusions


def check_exclusions(matrix: Matrix) -> None:
    """Raises UsageError for an entry of `exclude` that leaves out nothing of the matrix as it is written."""
    places = list(_places(matrix))
    for number, wanted in enumerate(_exclusions(matrix)):
        if not any(place.fits(wanted) for place in places):
            raise UsageError(f"exclude[{number}] matches no cell{_nearest_value(wanted, places)}")


def _select(places: list[Place], select: Iterable[str]) -> list[Place]:
    asked: dict[str, list[str]] = {}
    for word in select:
        key, equals, values = word.partition("=")
        if not equals:
            raise UsageError(f"--select {word} is not KEY=VALUE; KEY is one of {', '.join(KEYS)}")
        asked.setdefault(key, []).extend(values.split(","))
    with naming("--select"):
        wanted = _wanted(asked)
        for key, values in wanted.items():
            for value in values:
                if not any(place.fits({key: [value]}) for place in places):
                    raise UsageError(f"{key}={value} matches no cell{_nearest_value({key: [value]}, places)}")
        kept = [place for place in places if place.fits(wanted)]
        if not kept:
            words = " ".join(f"{key}={','.join(values)}" for key, values in asked.items())
            raise UsageError(f"{words} together match no cell")
    return kept


def _wanted(asked: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    for key in asked:
        if key not in KEYS:
            raise UsageError(f"unknown key '{key}'{did_you_mean(key, KEYS)}")
    return {key: [_filter_value(key, value) for value in values] for key, values in asked.items()}


def _filter_value(key: str, value: Any) -> Any:
    if isinstance(value, bool):  # `memory: off` is False in YAML
        return "on" if value else "off"
    return parse_count(value) if key in ("steps", "seed") else str(value)


def _nearest_value(wanted: Mapping[str, list[Any]], places: list[Place]) -> str:
    for key, values in wanted.items():
        known = {count_name(place.steps) if key == "steps" else str(getattr(place, key)) for place in places}
        for value in values:
            if not any(getattr(place, key) == value for place in places):
                return f": there is no {key} '{value}'{did_you_mean(str(value), known)}"
    return ""


def _check_template(matrix: Matrix) -> None:
    known = {*TEMPLATE_KEYS, *matrix.vars}
    with naming("run"):
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(matrix.run) if field is not None]
            for field in fields:
                if field not in known:
                    raise UsageError(f"unknown key '{field}' in the template{did_you_mean(field, known)}")
            matrix.run.format(**matrix.vars, name="", env="", arch="", steps="", seed=0)
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"the template '{matrix.run}' is broken: {error}") from None
