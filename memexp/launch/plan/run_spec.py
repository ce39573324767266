"""A cell: one run that can be launched, as the words that a node would type and the config that they resolve to."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memexp.config import MAX_NAME, UsageError, check_run_name
from memexp.launch.plan.recipe import Recipe, resolve
from memexp.ppo.config import TrainConfig


@dataclass(frozen=True)
class RunSpec:
    """One run to launch."""

    recipe: str
    """Dotted name."""
    words: dict[str, str]
    """KEY -> VALUE after the recipe, `run` among them; `resolve` of them is `config`."""
    config: TrainConfig

    @property
    def run(self) -> str:
        assert self.config.run is not None
        return self.config.run

    @property
    def arguments(self) -> list[str]:
        """What follows `memexp train`."""
        return [self.recipe, *(f"{key}={value}" for key, value in self.words.items())]

    @property
    def env(self) -> str:
        return self.config.labels.env or self.config.env.name

    @property
    def agent_steps(self) -> int:
        return self.config.trainer.total_timesteps


def make_spec(recipe: Recipe, words: Mapping[str, Any]) -> RunSpec:
    """The cell of `words`, `run` among them. Raises UsageError for what does not fit."""
    text = {key: word_text(value) for key, value in words.items()}
    _check_job_name(text["run"])
    return RunSpec(recipe.name, text, resolve(recipe, text))


def recipe_specs(recipe: Recipe, words: Mapping[str, str], copies: int = 1) -> list[RunSpec]:
    """The cells of one recipe: the run as named by `run=` or after its words, or `copies` of it with seeds on end.

    A copy's name is the run's with '.s<seed>' behind. Raises UsageError for words that do not fit.
    """
    words = dict(words)
    if "run" not in words:
        words["run"] = default_name(recipe, words)
    if copies == 1:
        return [make_spec(recipe, words)]
    first = resolve(recipe, words).seed
    return [
        make_spec(recipe, {**words, "run": f"{words['run']}.s{seed}", "seed": seed})
        for seed in range(first, first + copies)
    ]


def default_name(recipe: Recipe, words: Mapping[str, str]) -> str:
    """A name that the same words always give: 'tmaze.length-4.pattern-S'."""
    module, _, function = recipe.name.rpartition(".")
    stem = module.rpartition(".")[2].removesuffix("_train") if function == "train" else function
    parts = [f"{key.rpartition('.')[2]}-{value}" for key, value in sorted(words.items())]
    name = re.sub(r"[^A-Za-z0-9]*\.[^A-Za-z0-9]*", ".", re.sub(r"[^A-Za-z0-9.]+", "-", ".".join([stem, *parts])))
    name = name.strip("-.")
    if len(name) > MAX_NAME - 8:
        raise UsageError("the words are too many to make a run name of: name it with --run NAME")
    return name


def word_text(value: Any) -> str:
    """A YAML value as one would type it on the command line: 128, true, null, ["S", "X"]."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _check_job_name(name: str) -> None:
    """Raises UsageError for a run name that SkyPilot would refuse as the name of a job."""
    check_run_name(name)
    if re.search(r"[-_.]{3}", name):
        near = re.sub(r"([-_.])[-_.]{2,}", r"\1", name)
        raise UsageError(f"run name '{name}' has three separators in a row; did you mean '{near}'?")
