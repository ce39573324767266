"""One run to launch: the recipe and the overrides that `memexp train` gets, and the config that they resolve to."""

import hashlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic import ValidationError

from memexp import strict_yaml
from memexp.config import (
    MAX_NAME,
    Config,
    UsageError,
    bind_arguments,
    check_run_name,
    did_you_mean,
    error_lines,
    override,
)
from memexp.credentials import mask_data, remember
from memexp.launch.plan.recipe import Recipe
from memexp.pattern import remembers
from memexp.ppo.config import TrainConfig

CONFIG_KEYS = ("run", "seed", "force", "loggers")
"""Undotted keys that reach the config itself, if the recipe has no argument of that name."""
NO_EXPERIMENT = ("run=", "seed=", "loggers=", "trainer.total_", "labels.")
"""Beginnings of the words that make a run one of many: name, seed, steps, labels, and where its metrics go."""


@dataclass(frozen=True)
class RunSpec:
    """One run to launch."""

    recipe: str
    """Dotted name."""
    overrides: dict[str, str]
    """KEY -> VALUE after the recipe, `run` among them."""
    config: TrainConfig
    """What recipe and overrides resolve to."""

    @property
    def run(self) -> str:
        assert self.config.run is not None
        return self.config.run

    @property
    def arguments(self) -> list[str]:
        """What follows `memexp train`."""
        return [self.recipe, *(f"{key}={value}" for key, value in self.overrides.items())]

    def forced(self) -> "RunSpec":
        """The same run, which is resumed although the code of its environment has changed."""
        config = self.config.model_copy(update={"force": True})
        return replace(self, overrides={**self.overrides, "force": "true"}, config=config)

    @property
    def experiment(self) -> list[str]:
        """The same without what makes this run one of many."""
        return [word for word in self.arguments if not word.startswith(NO_EXPERIMENT)]

    @property
    def env(self) -> str:
        return self.config.labels.env or self.config.env.name

    @property
    def agent_steps(self) -> int:
        return self.config.trainer.total_timesteps

    @property
    def remembers(self) -> bool:
        """True if the agent carries anything from step to step."""
        cortex = self.config.cortex
        return cortex.memory == "on" and remembers(cortex.pattern, cortex.mem_len)


def make_spec(recipe: Recipe, overrides: Mapping[str, Any]) -> RunSpec:
    """The run of `overrides`, `run` among them. Raises UsageError for what does not fit."""
    typed = {key: override_text(value) for key, value in overrides.items()}
    check_run_name(typed["run"])
    if re.search(r"[-_.]{3}", typed["run"]):  # SkyPilot refuses it as the name of a job
        near = re.sub(r"([-_.])[-_.]{2,}", r"\1", typed["run"])
        raise UsageError(f"run name '{typed['run']}' has three separators in a row; did you mean '{near}'?")
    config = resolve(recipe, typed)
    remember(config.model_dump())  # an environment may say its options in an error
    if config.run is None:  # `null` stands for no value
        raise UsageError(f"run={typed['run']} is no name: leave it out, or name the run")
    return RunSpec(recipe.name, typed, config)


def recipe_specs(recipe: Recipe, overrides: Mapping[str, str], copies: int = 1) -> list[RunSpec]:
    """One run of a recipe, or `copies` of it with consecutive seeds and names that end in '.s<seed>'.

    Without `run=` the run is named after its overrides. Raises UsageError for overrides that do not fit.
    """
    name = overrides["run"] if "run" in overrides else default_name(recipe, overrides)
    first = make_spec(recipe, {**overrides, "run": name})
    if copies == 1:
        return [first]
    seeds = range(first.config.seed, first.config.seed + copies)
    return [make_spec(recipe, {**overrides, "run": f"{name}.s{seed}", "seed": seed}) for seed in seeds]


def default_name(recipe: Recipe, overrides: Mapping[str, str]) -> str:
    """A name that the same overrides always give: 'tmaze.length-4.pattern-S'."""
    module, _, function = recipe.name.rpartition(".")
    stem = module.rpartition(".")[2].removesuffix("_train") if function == "train" else function
    masked = mask_data(dict(sorted(overrides.items())))
    parts = [f"{key.rpartition('.')[2]}-{value}" for key, value in masked.items()]
    name = re.sub(r"[^A-Za-z0-9]*\.[^A-Za-z0-9]*", ".", re.sub(r"[^A-Za-z0-9.]+", "-", ".".join([stem, *parts])))
    return _shortened(name.strip("-."), MAX_NAME - 8)


MAX_SLUG = 40


def slug(settings: Mapping[str, Any]) -> str:
    """A name that the same settings always have: 'num_vibes-0', 'map_width-30.map_height-30'."""
    text = ".".join(f"{key}-{_plain(value)}" for key, value in settings.items())
    return _shortened(text, MAX_SLUG)


def _shortened(text: str, most: int) -> str:
    """A longer text is cut and ends in a digest of the whole."""
    if len(text) <= most:
        return text
    return f"{text[: most - 7].rstrip('-_.')}.{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _plain(value: Any) -> str:
    parts = dict.fromkeys(map(str, cast(list[Any], value) if isinstance(value, list) else [value]))
    return re.sub(r"[^A-Za-z0-9]+", "-", "-".join(parts)).strip("-").lower() or "none"


def override_text(value: Any) -> str:
    """A YAML value as it is typed on the command line: 128, true, null, ["S", "X"]. Raises UsageError."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, (dict, list)) and strict_yaml.read(text) != value:
        raise UsageError(f"{text} cannot be passed on: keys are text, and numbers are finite")
    return text


def resolve(recipe: Recipe, overrides: Mapping[str, Any]) -> TrainConfig:
    """The recipe's config with `overrides` (text as typed, or YAML values) in place.

    Dotted keys reach into the config. Undotted ones are arguments of the recipe, else knobs of its environment:
    `map_width=12` is `env.map_width=12`. Raises UsageError for an unknown key or a value that does not fit.
    """
    for dotted in overrides:  # labels are no settings: `env=gym:X labels.env=x` is fine
        key = dotted.rpartition(".")[2]
        if not dotted.startswith("labels.") and overrides.get(key, overrides[dotted]) != overrides[dotted]:
            raise UsageError(f"'{key}' is given twice: {overrides[key]}, and {overrides[dotted]} as '{dotted}'")
    function = recipe.load()
    parameters = inspect.signature(function).parameters
    arguments = {key: value for key, value in overrides.items() if key in parameters}
    try:
        config = function(**bind_arguments(function, arguments))
    except ValidationError as error:
        raise UsageError(error_lines(error)) from None
    knobs = type(config.env).model_fields.keys() - {"name"}
    fields: dict[str, Any] = {}
    for key in (key for key in overrides if key not in arguments):
        if key not in knobs and "." not in key and key not in CONFIG_KEYS:
            raise UsageError(f"unknown argument '{key}' of {recipe.name}{_nearest_key(key, [*parameters, *knobs])}")
        fields[f"env.{key}" if key in knobs else key] = overrides[key]
    config = override(override(config, fields), {"recipe": recipe.name})
    config.labels.check_levels(getattr(config.env, "ceiling_return", None))
    return config


def _nearest_key(key: str, known: Sequence[str]) -> str:
    if key == "steps":
        return "; did you mean 'trainer.total_timesteps'?"
    dotted = [name for name in _leaves(TrainConfig()) if name.endswith(f".{key}")]
    if dotted:
        return f"; did you mean '{dotted[0]}'?"
    groups = [f"{name}." for name in TrainConfig.model_fields if name not in (*CONFIG_KEYS, "recipe")]
    return did_you_mean(key, [*known, *CONFIG_KEYS, *groups])


def _leaves(config: Config, prefix: str = "") -> Iterator[str]:
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Config):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name
