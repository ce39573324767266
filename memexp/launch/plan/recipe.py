"""Recipes by name: any unique tail of the dotted name finds one, KEY=VALUE words turn it into a TrainConfig.

Discovery reads the source files below `recipes/`; only the recipe that is asked for is imported.
"""

import ast
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from memexp.config import Config, UsageError, bind_arguments, did_you_mean, error_lines, override
from memexp.ppo.config import TrainConfig

CONFIG_WORDS = ("run", "seed")
"""Undotted words that reach the config itself, where the recipe has no argument of that name."""


@dataclass(frozen=True)
class Recipe:
    """A function that returns a TrainConfig: where it stands and its first docstring line."""

    name: str
    """Dotted name, e.g. 'recipes.controls.tmaze'."""
    summary: str

    def load(self) -> Callable[..., TrainConfig]:
        module, _, function = self.name.rpartition(".")
        return getattr(importlib.import_module(module), function)


@cache
def all_recipes() -> tuple[Recipe, ...]:
    """Every public function below `recipes/` that is annotated to return a TrainConfig, sorted by name."""
    import recipes

    # An editable install adds a path that is no folder.
    roots = [Path(root) for root in recipes.__path__ if Path(root).is_dir()]
    found = [recipe for root in roots for recipe in _recipes_below(root, recipes.__name__)]
    return tuple(sorted(found, key=lambda recipe: recipe.name))


def _recipes_below(folder: Path, package: str) -> Iterator[Recipe]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and (path / "__init__.py").exists():
            yield from _recipes_below(path, f"{package}.{path.name}")
        elif path.suffix == ".py":
            module = package if path.stem == "__init__" else f"{package}.{path.stem}"
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef) and _is_recipe(node):
                    summary = (ast.get_docstring(node) or "").partition("\n")[0]
                    yield Recipe(f"{module}.{node.name}", summary)


def _is_recipe(node: ast.FunctionDef) -> bool:
    returns = ast.unparse(node.returns) if node.returns else ""
    return not node.name.startswith("_") and returns.rpartition(".")[2].strip("'\"") == TrainConfig.__name__


def find_recipe(word: str, second: str | None = None) -> Recipe:
    """The recipe whose dotted name is, or ends in, `word` or `word`.train; ('train', 'tmaze') stands for 'tmaze.train'.

    Raises UsageError for a name that fits none (with the nearest) or several (with all of them).
    """
    wanted = f"{second}.{word}" if second else word
    fitting = [recipe for recipe in all_recipes() if f".{recipe.name}".endswith((f".{wanted}", f".{wanted}.train"))]
    if len(fitting) == 1:
        return fitting[0]
    exact = [recipe for recipe in fitting if recipe.name == wanted]
    if exact:
        return exact[0]
    if fitting:
        raise UsageError(f"recipe '{wanted}' is ambiguous: {', '.join(recipe.name for recipe in fitting)}")
    raise UsageError(f"unknown recipe '{wanted}'{_nearest_recipe(wanted)}")


def _nearest_recipe(wanted: str) -> str:
    """'; did you mean ...' with the full name of the recipe one of whose tails is nearest to `wanted`."""
    tails = {}
    for recipe in all_recipes():
        parts = recipe.name.split(".")
        for at in range(len(parts)):
            tails.setdefault(".".join(parts[at:]), recipe.name)
    near = difflib.get_close_matches(wanted, tails, n=1, cutoff=0.6)
    return f"; did you mean '{tails[near[0]]}'?" if near else "; `memexp list recipes` shows all"


def split_target(words: Sequence[str]) -> tuple[Recipe, list[str]]:
    """['train', 'tmaze', 'pattern=S'] or ['tmaze', 'pattern=S'] -> the recipe and the KEY=VALUE words that follow.

    Raises UsageError for an unknown recipe and for words that are neither a name nor KEY=VALUE.
    """
    names = [word for word in words if "=" not in word]
    pairs = [word for word in words if "=" in word]
    if not names:
        raise UsageError("no recipe is named; `memexp list recipes` shows all")
    if len(names) > 2:
        raise UsageError(f"'{names[2]}' is not KEY=VALUE")
    if len(names) == 2:
        _refuse_stray_word(*names)
    return find_recipe(*names), pairs


def _refuse_stray_word(first: str, second: str) -> None:
    """Tell 'train tmaze' (two words that name a recipe) from 'controls.tmaze S' (a stray word after a whole name)."""
    try:
        find_recipe(first, second)
    except UsageError:
        if any(f".{recipe.name}".endswith(f".{first}") for recipe in all_recipes()) and first != "train":
            raise UsageError(f"'{second}' is not KEY=VALUE") from None
        raise


def resolve(recipe: Recipe, words: Mapping[str, Any]) -> TrainConfig:
    """The recipe's config after `words`: undotted ones bind to its arguments, else to a knob of its environment
    (`map_width=12` is `env.map_width=12`); dotted ones reach into the config.

    Values are text as typed, or YAML values. Raises UsageError for an unknown word or a value that does not fit.
    """
    _refuse_words_given_twice(words)
    function = recipe.load()
    parameters = inspect.signature(function).parameters
    arguments = {key: value for key, value in words.items() if key in parameters}
    try:
        config = function(**bind_arguments(function, arguments))
    except ValidationError as error:
        raise UsageError(error_lines(error)) from None
    knobs = type(config.env).model_fields.keys() - {"name"}
    fields = {}
    for key in (word for word in words if word not in arguments):
        if key in knobs:
            fields[f"env.{key}"] = words[key]
        elif "." in key or key in CONFIG_WORDS:
            fields[key] = words[key]
        else:
            raise UsageError(f"unknown argument '{key}' of {recipe.name}{_nearest_word(key, [*parameters, *knobs])}")
    return override(override(config, fields), {"recipe": recipe.name})


def _refuse_words_given_twice(words: Mapping[str, Any]) -> None:
    """Neither of `num_cogs=4 env.num_cogs=6` may win silently; labels are no settings: `env=gym:X labels.env=x`."""
    for dotted in words:
        key = dotted.rpartition(".")[2]
        if key != dotted and not dotted.startswith("labels.") and words.get(key, words[dotted]) != words[dotted]:
            raise UsageError(f"'{key}' is given twice: {words[key]}, and {words[dotted]} as '{dotted}'")


def _nearest_word(key: str, known: Sequence[str]) -> str:
    dotted = [name for name in _leaves(TrainConfig()) if name.endswith(f".{key}")]
    if dotted:
        return f"; did you mean '{dotted[0]}'?"
    groups = [name for name in TrainConfig.model_fields if name not in (*CONFIG_WORDS, "recipe")]
    return did_you_mean(key, [*known, *CONFIG_WORDS, *(f"{name}." for name in groups)])


def _leaves(config: Config, prefix: str = "") -> Iterator[str]:
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Config):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name
