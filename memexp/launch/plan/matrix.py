"""The matrix file: environments x architectures x steps x seeds, each cell a run with a name of its own."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from memexp.config import Config, Count, UsageError, did_you_mean, read_yaml
from memexp.launch.plan.resources import Resources

TEMPLATE_KEYS = ("name", "env", "arch", "steps", "seed")
OWN_KEYS = {
    "run": "run",
    "seed": "seeds",
    "trainer.total_timesteps": "steps",
    "labels.matrix": "name",
    "labels.env": "environments",
    "labels.arm": "architectures",
}
"""Config key that a cell sets itself -> the matrix key that says how."""
_KEY = re.compile(r"[A-Za-z0-9](?:[-_.A-Za-z0-9]*[A-Za-z0-9])?")


def as_list(value: Any) -> Any:
    """A value alone stands for a list of one."""
    return value if isinstance(value, list) else [value]


Counts = Annotated[list[Count], BeforeValidator(as_list)]
Seeds = int | list[int]


class Environment(Config):
    """One environment of a matrix: a recipe and the arguments that make it this environment."""

    recipe: str
    args: dict[str, Any] = Field(default={})
    """Recipe arguments and dotted keys."""


class Scale(Config):
    """A named set of changes to the matrix (`--scale NAME`); what it leaves out stays as it is."""

    steps: Counts | None = None
    seeds: Seeds | None = None
    twins: bool | None = None
    resources: dict[str, Any] = Field(default={})
    overrides: dict[str, Any] = Field(default={})

    @field_validator("resources")
    @classmethod
    def _resources_are_known(cls, resources: dict[str, Any]) -> dict[str, Any]:
        Resources.model_validate(resources)
        return resources


class Pilots(Config):
    """How `memexp launch pilots` looks for knobs with which an agent learns (launch/pilots.py)."""

    arch: str | None = None
    """Architecture that plays; None: the first with memory."""
    settings: dict[str, list[dict[str, Any]]] = Field(default={})
    """Environment -> settings of knobs to try, besides those that the answer suggests."""
    steps: Count | None = Field(default=None, gt=0)
    """Agent steps of a run in the first rung; None: a 27th of the matrix's."""
    rungs: int = Field(default=3, ge=1, le=6)
    """Rungs at most; each takes three times the steps of the one before, and a third of its settings."""
    seeds: Seeds = 2
    """Seeds of every setting."""


class Matrix(Config):
    """A matrix file. Keys that a cell's words come from, later ones win: args, architecture, overrides, steps, seed."""

    name: str
    run: str = "{name}.{env}_{arch}_{steps}.s{seed}"
    """Template of the run names; any of name, env, arch, steps, seed and the keys of `vars`."""
    vars: dict[str, str | int | float] = Field(default={})
    """Words for the template."""
    environments: dict[str, Environment] = Field(min_length=1)
    architectures: dict[str, dict[str, Any]] = Field(min_length=1)
    """Name -> recipe arguments (pattern, mem_len, ...) and dotted keys."""
    steps: Counts = Field(min_length=1)
    """Agent steps of a run; several give one run each."""
    seeds: Seeds = 5
    """How many (0, 1, ...), or which."""
    twins: bool = True
    """Every architecture with memory also runs with memory=off."""
    resources: Resources = Resources()
    overrides: dict[str, Any] = Field(default={})
    """Recipe arguments and dotted keys for all cells."""
    exclude: list[dict[str, Any]] = Field(default=[])
    """Cells to leave out: each entry is {key: value or list of values} over env, arch, arm, memory, steps, seed."""
    scales: dict[str, Scale] = Field(default={})
    """Variants for --scale NAME; the matrix is then called '<name>-<scale>', so its runs stand apart."""
    pilots: Pilots = Pilots()
    """Cheap runs that look for knobs, before the matrix itself."""

    @field_validator("vars")
    @classmethod
    def _vars_are_new(cls, words: dict[str, Any]) -> dict[str, Any]:
        for key in words:
            if key in TEMPLATE_KEYS or not key.isidentifier():
                raise ValueError(f"'{key}' cannot be a variable; {', '.join(TEMPLATE_KEYS)} are taken")
        return words

    @field_validator("environments", "architectures")
    @classmethod
    def _names_can_stand_in_a_run_name(cls, table: dict[str, Any]) -> dict[str, Any]:
        for key in table:
            if not _KEY.fullmatch(key):
                raise ValueError(f"the name '{key}' may have letters, digits and, inside, '-', '_' and '.' only")
        return table

    @field_validator("steps")
    @classmethod
    def _steps_are_positive(cls, steps: list[int]) -> list[int]:
        return [_positive(count, "steps") for count in steps]

    @field_validator("seeds")
    @classmethod
    def _seeds_can_be_counted(cls, seeds: Seeds) -> Seeds:
        if isinstance(seeds, int):
            return _positive(seeds, "seeds")
        if not seeds:
            raise ValueError("the list of seeds is empty")
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"the list of seeds {seeds} names one twice")
        return seeds

    @model_validator(mode="after")
    def _leaves_the_matrix_its_keys(self) -> "Matrix":
        groups = {f"environments.{name}.args": env.args for name, env in self.environments.items()}
        groups |= {f"architectures.{name}": words for name, words in self.architectures.items()}
        for place, words in {**groups, "overrides": self.overrides}.items():
            for key in words:
                if key in OWN_KEYS:
                    raise ValueError(f"{place}: '{key}' is set by the matrix: use `{OWN_KEYS[key]}`")
        return self

    @property
    def seed_list(self) -> list[int]:
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    def at_scale(self, name: str) -> "Matrix":
        """This matrix with the changes of scale `name`, under a name of its own. Raises UsageError."""
        if name not in self.scales:
            if not self.scales:
                raise UsageError(f"--scale {name}: the matrix '{self.name}' has no scales")
            raise UsageError(f"unknown scale '{name}'{did_you_mean(name, self.scales)}")
        scale = self.scales[name]
        changes = {
            "name": f"{self.name}-{name}",
            "resources": {**self.resources.model_dump(), **scale.resources},
            "overrides": {**self.overrides, **scale.overrides},
            **{key: value for key in ("steps", "seeds", "twins") if (value := getattr(scale, key)) is not None},
        }
        return self.but(changes, f"scales.{name}")

    def but(self, changes: Mapping[str, Any], where: str = "") -> "Matrix":
        """A copy with `changes` in place. Raises UsageError."""
        return type(self).parse({**self.model_dump(), **changes}, where)


def _positive(count: int, what: str) -> int:
    if count <= 0:
        raise ValueError(f"{what} must be above 0, not {count}")
    return count


def load_matrix(path: Path | str) -> Matrix:
    """The matrix in `path`. Raises UsageError that names file and place."""
    path = Path(path)
    if path.is_dir():
        inside = ", ".join(str(file) for file in sorted(path.glob("*.y*ml"))) or "none"
        raise UsageError(f"{path} is a folder; matrix files in it: {inside}")
    if not path.is_file():
        near = {str(file) for folder in (path.parent, Path("."), Path("experiments")) for file in folder.glob("*.y*ml")}
        raise UsageError(f"there is no matrix file {path}{did_you_mean(str(path), near)}")
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UsageError(f"{path} is no matrix: it has no keys such as `name` and `environments`")
    return Matrix.parse(data, str(path))


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Puts `place` in front of what a UsageError says."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{place}: {error}" if place else str(error)) from None
