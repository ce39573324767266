"""The matrix file: environments x architectures x steps x seeds; every combination is a run with a name of its own."""

import math
import random
import re
from collections.abc import Collection, Mapping
from itertools import product
from math import prod
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from memexp.config import (
    MAX_NAME,
    MAX_RUNS,
    Config,
    Count,
    UsageError,
    check_levels,
    count_name,
    did_you_mean,
    read_yaml,
)
from memexp.launch.plan.resources import Resources, Section
from memexp.ppo.config import STATED, Loggers, Steps

TEMPLATE_KEYS = ("name", "env", "arch", "steps", "seed")
OWN_KEYS = {
    "run": "run",
    "seed": "seeds",
    "trainer.total_timesteps": "steps",
    "labels.matrix": "name",
    "labels.env": "environments",
    "labels.arm": "architectures",
    "labels.twin_of": "twin_of",
    "labels.metric": "metric",
}
"""Config key that the matrix itself sets for every run -> the matrix key that it follows from."""
TWIN_OF = "twin_of"
"""Key of an architecture that is a control without memory: the architecture that it is compared with."""
TRIAL_SEED = 1000
"""Seed of the first run that tries a setting. The seeds that are judged are below it."""
_KEY = re.compile(r"[A-Za-z0-9](?:[-_.A-Za-z0-9]*[A-Za-z0-9])?")


def as_list(value: Any) -> list[Any]:
    """A single value as a list of one."""
    return cast(list[Any], value) if isinstance(value, list) else [value]


Counts = Annotated[list[Count], BeforeValidator(as_list)]
ListOfSteps = Annotated[list[Steps], BeforeValidator(as_list)]
Names = Annotated[list[str], BeforeValidator(as_list)]
Arguments = Annotated[dict[str, Any], BeforeValidator(lambda value: {} if value is None else value)]
"""Recipe arguments (pattern, mem_len, ...) and dotted keys; an empty section has none."""


def _can_be_printed(name: str) -> str:
    if not name.isprintable():
        raise ValueError(f"{name!r} has characters that cannot be printed")
    return name


def _refuse_null(name: str) -> str:
    """The name. As a label it would be read as none at all if it were `null`."""
    if name.lower() == "null":
        raise ValueError(f"the name '{name}' stands for no name; take another")
    return name


Name = Annotated[str, Field(max_length=MAX_NAME), AfterValidator(_can_be_printed)]


def _can_be_counted(seeds: int | list[int]) -> int | list[int]:
    if isinstance(seeds, list):
        if not seeds:
            raise ValueError("the list of seeds is empty")
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"the list of seeds {seeds} names one twice")
    elif seeds <= 0:
        raise ValueError(f"{seeds} seeds give no run; 1 is seed 0 alone, and so is the list [0]")
    return seeds


Seeds = Annotated[Annotated[Count, Field(le=MAX_RUNS)] | list[Count], AfterValidator(_can_be_counted)]
"""A number of seeds (3 stands for the seeds 0, 1 and 2), or a list of seeds."""


class Filter(Config):
    """Selects runs of a matrix: those that have, for every key that is given, one of the listed values. A single value
    needs no brackets."""

    env: Names | None = None
    """Environment, by its name in the file."""
    arch: Names | None = None
    """Architecture, by its name in the file; its twin is meant, too."""
    arm: Names | None = None
    """Architecture, or its twin with a '~' at the end."""
    memory: Names | None = None
    """on, or off for twins."""
    steps: Counts | None = None
    """Agent steps of the run."""
    seed: Counts | None = None
    """Seed of the run."""

    @model_validator(mode="after")
    def _is_not_empty(self) -> "Filter":
        if not self.wanted:
            raise ValueError("the entry is empty and would match every run")
        return self

    @property
    def wanted(self) -> dict[str, list[Any]]:
        """Key -> values, of the keys that are given."""
        return self.model_dump(exclude_none=True)

    def unmatched(self, axes: Mapping[str, Collection[Any]], every: bool = False) -> str:
        """A message about a key of which no value (`every`: not every value) occurs in the matrix; '' if there is none.

        `axes`: key -> the values that runs of the matrix have.
        """
        for key, values in self.wanted.items():
            missing = [value for value in values if value not in axes[key]]
            if missing and (every or len(missing) == len(values)):
                known = [count_name(value) if key == "steps" else str(value) for value in axes[key]]
                return f"there is no {key} '{missing[0]}'{did_you_mean(str(missing[0]), known)}"
        return ""


class Environment(Section):
    """One environment of a matrix: a recipe and the arguments that make it this environment."""

    recipe: str
    """Dotted name of a recipe, or its unique end (recipes.any.train, tmaze). `memexp list recipes` shows all."""
    args: Arguments = Field(default={})
    """Arguments of the recipe, knobs of its environment and dotted keys ({length: 8, trainer.gamma: 0.99})."""
    ceiling_return: float | None = Field(default=None, allow_inf_nan=False)
    """Highest mean episode return that can be reached: the top of the scale."""
    solved_return: float | None = Field(default=None, allow_inf_nan=False)
    """Mean episode return that counts as solved; None: 75 % of the way to a known top."""
    partner: str | None = None
    """Environment of this matrix with the same rewards that shows everything: its best arm can be the top."""
    memory_span: Annotated[Count, Field(ge=0)] | None = None
    """Agent steps that the task asks to remember; 0: the current observation is enough."""

    @model_validator(mode="after")
    def _levels_agree(self) -> "Environment":
        check_levels(self.ceiling_return, self.solved_return)
        return self

    @property
    def stated(self) -> dict[str, Any]:
        """What the file says about the task beside the recipe, by its name in the labels and in run.json."""
        return self.model_dump(include=STATED, exclude_none=True)


class Scale(Section):
    """Changes to the matrix under a name (`--scale NAME`). What a scale does not name stays as it is."""

    steps: ListOfSteps | None = None
    """In place of the matrix's `steps`."""
    seeds: Seeds | None = None
    """In place of the matrix's `seeds`."""
    twins: bool | None = None
    """In place of the matrix's `twins`."""
    resources: dict[str, Any] = Field(default={})
    """Keys of `resources` that change; the others stay."""
    overrides: dict[str, Any] = Field(default={})
    """Overrides that are added, or take the place of the matrix's."""
    tuning: dict[str, Any] = Field(default={})
    """Keys of `tuning` that change; the others stay."""

    @field_validator("resources", "tuning")
    @classmethod
    def _keys_are_known(cls, keys: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        (Resources if info.field_name == "resources" else Tuning).model_validate(keys)
        return keys


class Pilots(Section):
    """How `memexp launch pilots` searches for environment settings with which an agent learns."""

    arch: str | None = None
    """Architecture of the pilot runs; None: the first with memory."""
    settings: dict[str, list[dict[str, Any]]] = Field(default={})
    """Environment -> settings to try beside those that memexp suggests ({maze: [{length: 2}, {length: 4}]})."""
    steps: Steps | None = None
    """Agent steps of a run in the first rung; None: 1/27 of the matrix's steps."""
    rungs: int = Field(default=3, ge=1, le=6)
    """Largest number of rungs. Each has three times the steps of the rung before, and a third of its settings."""
    seeds: Seeds = 2
    """Seeds of every setting."""


class Range(Config):
    """A range of values in `tune`, from which a random search draws."""

    low: int | float
    """Smallest value. If both ends are whole numbers, so are the values."""
    high: int | float
    """Largest value."""
    log: bool = False
    """True: every factor is equally likely, not every difference."""

    @model_validator(mode="after")
    def _ends_are_in_order(self) -> "Range":
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"low: {self.low:g} must be below high: {self.high:g}" + " and above 0" * self.log)
        return self

    def draw(self, rng: random.Random) -> int | float:
        """A value of three digits, whole if both ends are."""
        ends = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = rng.uniform(*ends)
        value = float(f"{math.exp(value) if self.log else value:.3g}")
        return round(value) if isinstance(self.low, int) and isinstance(self.high, int) else value


class Tuning(Section):
    """How the settings of `tune` are tried."""

    trials: Annotated[Count, Field(ge=1, le=MAX_RUNS)] | None = None
    """Settings to try, drawn at random; the same for every arm. None: all combinations of the lists."""
    seeds: Annotated[Count, Field(ge=1, le=100)] = 2
    """Seeds of every setting: 1000, 1001, ..."""
    steps: Steps | None = None
    """Agent steps of a run; None: the matrix's (the most, if it lists several)."""
    rungs: int = Field(default=1, ge=1, le=6)
    """Above 1: bad settings are dropped early. Each rung has three times the steps of the rung before and the best
    third of its settings; the last rung has `steps`."""


class Matrix(Section):
    """A matrix file. A run's overrides are merged in this order, later ones win: args, architecture, overrides, steps,
    seed."""

    name: Name
    """The matrix's name. `memexp status`, `report` and the others take it, and it begins the run names."""
    run: Name = "{name}.{env}_{arch}_{steps}.s{seed}"
    """Template of the run names; any of name, env, arch, steps, seed and the keys of `vars`."""
    vars: dict[str, Name | int | float] = Field(default={})
    """Further keys of the template, with their values ({version: 2})."""
    environments: dict[str, Environment] = Field(min_length=1)
    """Name -> environment."""
    architectures: dict[str, Arguments] = Field(min_length=1)
    """Name -> arguments of the recipe and dotted keys ({pattern: X, mem_len: 128, trainer.horizon: 64}). The recipes of
    memexp all take pattern, mem_len, d_hidden, num_layers and n_heads. `twin_of: ARM` makes it a twin of one's own."""
    steps: ListOfSteps = Field(min_length=1)
    """Agent steps of a run (500m, 2b); a list gives one run for each entry."""
    seeds: Seeds = 5
    """Number of seeds (3: the seeds 0, 1 and 2), or a list of seeds ([3]: seed 3 alone)."""
    metric: Name = "return"
    """What is judged: the return, or a number in the `info` of an episode's last step, such as success."""
    loggers: Loggers | None = None
    """Where metrics go beside metrics.jsonl: wandb, tensorboard, csv, mlflow; []: nowhere. None: as the recipe says."""
    twins: bool = True
    """True: every architecture with memory also runs with memory=off. An architecture with `twin_of: ARM` is a twin of
    one's own: a control without memory, with which ARM is compared, too."""
    resources: Resources = Resources()
    """The machines and the time that each run gets in the cloud. They mean nothing with --local."""
    overrides: dict[str, Any] = Field(default={})
    """Recipe arguments and dotted keys for all runs ({trainer.horizon: 256})."""
    exclude: list[Filter] = Field(default=[])
    """Runs to leave out: each entry has a value or list of values for one or more keys ({env: maze, arch: [S, X]})."""
    scales: dict[str, Scale] = Field(default={})
    """Variants for --scale NAME. The matrix is then called '<name>-<scale>', so that its runs have other names
    ({small: {steps: [100k], seeds: 2}})."""
    pilots: Pilots = Pilots()
    """Short runs before the matrix, which search for settings of the environment."""
    tune: dict[str, list[Any] | Range] = Field(default={})
    """Dotted key -> values to try, a list ([3e-4, 1e-3]) or a range ({low: 0.9, high: 0.99}). Every arm and its twin
    run with their own best values."""
    tuning: Tuning = Tuning()
    """How many of these values are tried, and for how long."""

    @model_validator(mode="after")
    def _template_is_whole(self) -> "Matrix":
        known = {**dict.fromkeys(TEMPLATE_KEYS, ""), "seed": 0, **self.vars}
        try:
            for _, _, form, _ in Formatter().parse(self.run):
                if re.search(r"{|\d{4}", form or ""):
                    raise ValueError(f"the format '{form}' is nested or too wide")
            self.run.format(**known)
        except KeyError as error:
            key = error.args[0]
            raise ValueError(f"run: unknown key '{key}' in the template{did_you_mean(key, known)}") from None
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"run: the template '{self.run}' is broken: {error}") from None
        return self

    @field_validator("name")
    @classmethod
    def _name_is_a_name(cls, name: str) -> str:
        return _refuse_null(name)

    @field_validator("vars")
    @classmethod
    def _vars_are_new(cls, values: dict[str, Any]) -> dict[str, Any]:
        for key in values:
            if key in TEMPLATE_KEYS or not key.isidentifier():
                raise ValueError(f"'{key}' cannot be a variable; {', '.join(TEMPLATE_KEYS)} are taken")
        return values

    @field_validator("environments", "architectures")
    @classmethod
    def _names_can_stand_in_a_run_name(cls, table: dict[str, Any]) -> dict[str, Any]:
        for key in table:
            _refuse_null(key)
            if not _KEY.fullmatch(key):
                raise ValueError(f"the name '{key}' may have letters, digits and, inside, '-', '_' and '.' only")
        return table

    @model_validator(mode="after")
    def _references_fit(self) -> "Matrix":
        for name, one in self.environments.items():
            others = [other for other in self.environments if other != name]
            if one.partner is not None and one.partner not in others:
                hint = did_you_mean(one.partner, others) if others else ": the matrix has no other environment"
                raise ValueError(f"environments.{name}.partner: '{one.partner}' is no other environment{hint}")
        return self

    @model_validator(mode="after")
    def _runs_can_be_listed(self) -> "Matrix":
        seeds = self.seeds if isinstance(self.seeds, int) else len(self.seeds)
        axes = (len(self.environments), len(self.architectures), len(self.steps), 1 + self.twins, seeds)
        if (runs := prod(axes)) > MAX_RUNS:
            raise ValueError(f"the matrix has up to {runs:,} runs; {MAX_RUNS:,} is the most")
        return self

    @model_validator(mode="after")
    def _overrides_leave_the_matrix_its_keys(self) -> "Matrix":
        groups = {f"environments.{name}.args": env.args for name, env in self.environments.items()}
        groups |= {f"architectures.{name}": overrides for name, overrides in self.architectures.items()}
        for place, overrides in {**groups, "overrides": self.overrides}.items():
            for key in overrides:
                if key in OWN_KEYS:
                    raise ValueError(f"{place}: '{key}' is set by the matrix: use `{OWN_KEYS[key]}`")
        return self

    @model_validator(mode="after")
    def _controls_have_an_architecture(self) -> "Matrix":
        others = [name for name in self.architectures if name not in self.controls]
        for name, of in self.controls.items():
            if of not in others:
                near = did_you_mean(str(of), others)
                raise ValueError(f"architectures.{name}: twin_of: there is no other architecture '{of}'{near}")
        return self

    @property
    def controls(self) -> dict[str, Any]:
        """Architecture that is a twin of one's own -> the architecture that it is compared with."""
        return {name: given[TWIN_OF] for name, given in self.architectures.items() if TWIN_OF in given}

    @field_validator("tune", mode="before")
    @classmethod
    def _values_can_be_tried(cls, table: Any) -> Any:
        for key, given in cast(dict[str, Any], table).items() if isinstance(table, dict) else ():
            values = cast(list[Any], given) if isinstance(given, list) else None
            if values is None and not isinstance(given, (Mapping, Range)):
                raise ValueError(f"'{key}' has one value, {given!r}: give a list, or {{low: ..., high: ...}}")
            if values == []:
                raise ValueError(f"the list of '{key}' is empty")
            if values and any(one in values[:place] for place, one in enumerate(values)):
                raise ValueError(f"the list of '{key}' names a value twice")
            if "." not in key:
                raise ValueError(f"'{key}' is no dotted key, such as trainer.learning_rate")
            if key in OWN_KEYS or key == "cortex.memory":
                raise ValueError(f"'{key}' is set by the matrix: use `{OWN_KEYS.get(key, 'twins')}`")
        return cast(Any, table)

    @model_validator(mode="after")
    def _tuning_is_whole(self) -> "Matrix":
        plan = self.tuning
        groups = {f"environments.{name}.args": env.args for name, env in self.environments.items()}
        groups |= {f"architectures.{name}": overrides for name, overrides in self.architectures.items()}
        for place, overrides in {**groups, "overrides": self.overrides}.items():
            if key := next((key for key in self.tune if {key, key.rpartition(".")[2]} & overrides.keys()), None):
                raise ValueError(f"tune: '{key}' is also set by `{place}`: leave it out there")
        if (given := plan.model_dump(exclude_defaults=True, exclude={"seeds"})) and not self.tune:
            raise ValueError(f"tuning: `{next(iter(given))}` needs `tune:`, the values to try")
        lists = [values for values in self.tune.values() if isinstance(values, list)]
        grid, is_grid = prod(len(values) for values in lists), len(lists) == len(self.tune)
        if not is_grid and not plan.trials:
            raise ValueError("tuning: a range needs `trials`, the number of settings to draw")
        if is_grid and (plan.trials or 0) > grid:
            raise ValueError(f"tuning: trials: the lists have {grid} combinations, not {plan.trials}")
        runs = (plan.trials or grid) * plan.seeds * len(self.environments) * len(self.architectures) * (1 + self.twins)
        if self.tune and runs > MAX_RUNS:
            raise ValueError(f"tune: up to {runs:,} runs try the settings; {MAX_RUNS:,} is the most")
        if self.tune and max(self.seed_list, default=0) >= TRIAL_SEED:
            raise ValueError(f"seeds: from {TRIAL_SEED} on they belong to the runs that try settings")
        return self

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The settings of `tune` to try: all combinations, or `tuning.trials` drawn at random.

        With more trials the first ones stay the same.
        """
        rng, trials, ranges = random.Random(0), self.tuning.trials, [*self.tune.values()]
        if all(isinstance(values, list) for values in ranges):
            grid = [dict(zip(self.tune, one, strict=True)) for one in product(*cast(list[list[Any]], ranges))]
            return grid if trials is None else rng.sample(grid, len(grid))[:trials]
        drawn: list[dict[str, Any]] = []
        for _ in range(100 * (trials or 0)):
            one = {key: v.draw(rng) if isinstance(v, Range) else rng.choice(v) for key, v in self.tune.items()}
            drawn += [] if one in drawn else [one]
        return drawn[:trials]

    @property
    def seed_list(self) -> list[int]:
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def axes(self) -> dict[str, list[Any]]:
        """Key of a `Filter` -> the values that runs may have, as if every architecture had memory."""
        memory = ["on", "off"] if self.twins else ["on"]
        arms = [arch + twin for arch in self.architectures for twin in ("", "~")[: len(memory)]]
        environments, architectures = [*self.environments], [*self.architectures]
        known = {"env": environments, "arch": architectures, "arm": arms, "memory": memory}
        return {**known, "steps": self.steps, "seed": self.seed_list}

    def at_scale(self, name: str) -> "Matrix":
        """This matrix with the changes of scale `name`, under another name. Raises UsageError."""
        if name not in self.scales:
            if not self.scales:
                raise UsageError(f"--scale {name}: the matrix '{self.name}' has no scales")
            raise UsageError(f"unknown scale '{name}'{did_you_mean(name, self.scales)}")
        scale = self.scales[name]
        changes = {
            "name": f"{self.name}-{name}",
            "resources": {**self.resources.model_dump(), **scale.resources},
            "overrides": {**self.overrides, **scale.overrides},
            "tuning": {**self.tuning.model_dump(), **scale.tuning},
            **{key: value for key in ("steps", "seeds", "twins") if (value := getattr(scale, key)) is not None},
        }
        return self.but(changes, f"scales.{name}")

    def but(self, changes: Mapping[str, Any], where: str = "") -> "Matrix":
        """A copy with `changes` in place of what was there. Raises UsageError."""
        return type(self).parse({**self.model_dump(), **changes}, where)


def load_matrix(path: Path | str) -> Matrix:
    """The matrix in `path`. Raises UsageError that names the file and the place in it."""
    path = Path(path)
    if path.is_dir():
        inside = ", ".join(str(file) for file in sorted(path.glob("*.y*ml"))) or "none"
        raise UsageError(f"{path} is a folder; matrix files in it: {inside}")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no matrix file: it is a pipe or a device")
    if not path.is_file():
        near = {str(file) for folder in (path.parent, Path("."), Path("experiments")) for file in folder.glob("*.y*ml")}
        raise UsageError(f"there is no matrix file {path}{did_you_mean(str(path), near)}")
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UsageError(f"{path} is no matrix: it has no keys such as `name` and `environments`")
    matrix = Matrix.parse(data, str(path))
    for number, entry in enumerate(matrix.exclude):
        if unmatched := entry.unmatched(matrix.axes):
            raise UsageError(f"{path}: exclude.{number} matches no run: {unmatched}")
    return matrix
