"""From a matrix to its runs: every combination of its axes, less what is excluded, resolved once each."""

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from memexp.config import UsageError, count_name
from memexp.launch.plan.matrix import TWIN_OF, Filter, Matrix
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.run_spec import RunSpec, make_spec

KEYS = tuple(Filter.model_fields)
NO_CONTROL = "a twin (twin_of) has no memory: set cortex.memory: off, or mem_len: 0 for X alone"


@dataclass(frozen=True)
class Place:
    """The place of a run in its matrix: one value on each axis."""

    env: str
    arch: str
    memory: str
    """"off" for the twin."""
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
    """The runs of `places`. Raises UsageError that names `where` (the file) and the place, see there."""
    return list(places(matrix, where, select).values())


def places(matrix: Matrix, where: str = "", select: Iterable[str] = ()) -> dict[Place, RunSpec]:
    """Every run of the matrix that is not excluded and that `select` (see `selection`) asks for, in the file's order.

    Raises UsageError that names `where` (the file) and the place: for an unknown recipe, argument or pattern, a
    selection that matches nothing, a template that gives two runs one name, and an empty matrix.
    """

    @cache
    def spec_at(place: Place) -> RunSpec:
        return run_at(matrix, place)

    def all_places() -> Iterator[Place]:
        for env, arch in product(matrix.environments, matrix.architectures):
            first = Place(env, arch, "on", matrix.steps[0], matrix.seed_list[0])
            if arch in matrix.controls and spec_at(first).remembers:
                raise UsageError(f"architectures.{arch}: {NO_CONTROL}")
            memory = ("on", "off") if matrix.twins and spec_at(first).remembers else ("on",)
            for steps, on_or_off, seed in product(matrix.steps, memory, matrix.seed_list):
                yield Place(env, arch, on_or_off, steps, seed)

    with naming(where):
        kept = _without_excluded(matrix, list(all_places()))
    kept = _selected(kept, select)
    named: dict[str, Place] = {}
    with naming(where):
        for place in kept:
            first = named.setdefault(spec_at(place).run, place)
            if first is not place:
                raise UsageError(f"run: two runs are called '{spec_at(place).run}': ({first}) and ({place})")
    return {place: spec_at(place) for place in kept}


def run_at(matrix: Matrix, place: Place, settings: Mapping[str, Any] | None = None, **labels: Any) -> RunSpec:
    """The run at a place of the matrix, with other values of dotted keys (`settings`).

    A run with an `arm` among the `labels` is an additional one; its name ends in its `mark`. Raises UsageError.
    """
    environment, twin = matrix.environments[place.env], place.memory == "off"
    architecture = matrix.architectures[place.arch]
    axes = {"env": place.env, "arch": place.arch + "-off" * twin, "steps": count_name(place.steps), "seed": place.seed}
    mark = f".{labels.pop('mark')}" if labels else ""
    with naming(f"environments.{place.env}.recipe"):
        recipe = find_recipe(environment.recipe)
    with naming(f"run {place}"):
        return make_spec(
            recipe,
            {
                **environment.args,
                **{key: value for key, value in architecture.items() if key != TWIN_OF},
                **({} if matrix.loggers is None else {"loggers": matrix.loggers}),
                **matrix.overrides,
                **(settings or {}),
                **({"cortex.memory": "off"} if twin else {}),
                "trainer.total_timesteps": place.steps,
                "seed": place.seed,
                "run": matrix.run.format(**matrix.vars, name=matrix.name, **axes) + mark,
                "labels.matrix": matrix.name,
                "labels.env": place.env,
                "labels.arm": place.arm,
                **({"labels.twin_of": architecture[TWIN_OF]} if TWIN_OF in architecture else {}),
                **({} if matrix.metric == "return" else {"labels.metric": matrix.metric}),
                **{f"labels.{key}": value for key, value in environment.stated.items()},
                **{f"labels.{key}": value for key, value in labels.items()},
            },
        )


def _without_excluded(matrix: Matrix, places: list[Place]) -> list[Place]:
    """Raises UsageError for an entry that matches nothing, whatever steps and seeds the options ask for."""
    entries = [entry.wanted for entry in matrix.exclude]
    for number, entry in enumerate(entries):
        arm = {key: values for key, values in entry.items() if key not in ("steps", "seed")}
        if matrix.twins and not any(place.fits(arm) for place in places):
            raise UsageError(f"exclude.{number} matches no run")
    kept = [place for place in places if not any(place.fits(entry) for entry in entries)]
    if not kept:
        raise UsageError(f"exclude leaves none of {len(places)} runs")
    return kept


def selection(select: Iterable[str]) -> dict[str, list[str]]:
    """['env=maze,arch=S,X', 'arch=L'] -> {'env': ['maze'], 'arch': ['S', 'X', 'L']}.

    Raises UsageError for a value without a key.
    """
    asked: dict[str, list[str]] = {}
    for text in select:
        key = ""
        for word in re.split(r"[,\s]+", text.strip()):
            before, equals, value = word.rpartition("=")
            key = before if equals else key
            if not key:
                raise UsageError(f"--select {text} is not KEY=VALUE; KEY is one of {', '.join(KEYS)}")
            asked.setdefault(key, []).append(value)
    return asked


def _selected(places: list[Place], select: Iterable[str]) -> list[Place]:
    asked = selection(select)
    if not asked:
        return places
    wanted = Filter.parse(asked, "--select")
    axes: dict[str, set[Any]] = {key: {getattr(place, key) for place in places} for key in KEYS}
    text = " ".join(f"{key}={','.join(values)}" for key, values in asked.items())
    if unmatched := wanted.unmatched(axes, every=True):
        raise UsageError(f"--select {text}: {unmatched}")
    kept = [place for place in places if place.fits(wanted.wanted)]
    if not kept:
        raise UsageError(f"--select: {text} together match no run")
    return kept


@contextmanager
def naming(place: str) -> Generator[None]:
    """Puts `place` before the message of a UsageError."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{place}: {error}" if place else str(error)) from None
