"""Recipes by name: any unique tail of the dotted name finds one.

Discovery reads the source files below `recipes/`. Only the recipe that is asked for is imported.
"""

import ast
import difflib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from memexp.config import UsageError
from memexp.ppo.config import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """A function that returns a TrainConfig."""

    name: str
    """Dotted name, e.g. 'recipes.controls.tmaze'."""
    summary: str
    """First line of its docstring."""

    def load(self) -> Callable[..., TrainConfig]:
        module, _, function = self.name.rpartition(".")
        return getattr(importlib.import_module(module), function)

    def is_called(self, tail: str) -> bool:
        """True if the dotted name is, or ends in, `tail`."""
        return f".{self.name}".endswith(f".{tail}")


@cache
def all_recipes() -> tuple[Recipe, ...]:
    """Every public function below `recipes/` that is annotated to return a TrainConfig, sorted by name.

    Folders without `__init__.py` are not searched: an editor or a user may keep copies of recipes there.
    """
    import recipes

    found: list[Recipe] = []
    for root in map(Path, recipes.__path__):  # an editable install adds one that is no folder, and has no files
        for path in root.rglob("*.py"):
            *packages, _ = path.relative_to(root).parents
            if not all((root / package / "__init__.py").is_file() for package in packages):
                continue
            parts = [recipes.__name__, *path.relative_to(root).with_suffix("").parts]
            module = ".".join(parts).removesuffix(".__init__")
            functions = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)]
            for node in functions:
                returns = ast.unparse(node.returns).rpartition(".")[2].strip("'\"") if node.returns else ""
                if returns == TrainConfig.__name__ and not node.name.startswith("_"):
                    summary = (ast.get_docstring(node) or "").partition("\n")[0]
                    found.append(Recipe(f"{module}.{node.name}", summary))
    return tuple(sorted(found, key=lambda recipe: recipe.name))


def find_recipe(name: str, second: str | None = None) -> Recipe:
    """The recipe whose dotted name is, or ends in, `name` or `name`.train; ('train', 'tmaze') stands for 'tmaze.train'.

    Raises UsageError for a name that fits no recipe (with the nearest) or several (with all of them).
    """
    wanted = f"{second}.{name}" if second else name
    fitting = [recipe for recipe in all_recipes() if recipe.is_called(wanted) or recipe.is_called(f"{wanted}.train")]
    if len(fitting) == 1:
        return fitting[0]
    if exact := [recipe for recipe in fitting if recipe.name == wanted]:
        return exact[0]
    if fitting:
        raise UsageError(f"recipe '{wanted}' is ambiguous: {', '.join(recipe.name for recipe in fitting)}")
    tails = {}
    for recipe in all_recipes():
        parts = recipe.name.split(".")
        for at in range(len(parts)):
            tails.setdefault(".".join(parts[at:]), recipe.name)
    near = difflib.get_close_matches(wanted, tails, n=1, cutoff=0.6)
    hint = f"did you mean '{tails[near[0]]}'?" if near else "`memexp list recipes` shows all"
    raise UsageError(f"unknown recipe '{wanted}'; {hint}")


def split_target(arguments: Sequence[str]) -> tuple[Recipe, list[str]]:
    """['train', 'tmaze', 'pattern=S'] or ['tmaze', 'pattern=S'] -> the recipe and the overrides (KEY=VALUE).

    Raises UsageError for an unknown recipe and for an argument that is neither part of its name nor KEY=VALUE.
    """
    names = [argument for argument in arguments if "=" not in argument]
    overrides = [argument for argument in arguments if "=" in argument]
    if not names:
        raise UsageError("no recipe is named; `memexp list recipes` shows all")
    if len(names) > 2:
        raise UsageError(f"'{names[2]}' is not KEY=VALUE")
    try:
        return find_recipe(*names), overrides
    except UsageError:
        # 'controls.tmaze S' has a stray argument after a whole name; 'train tmaze' is a name in two parts.
        if len(names) == 2 and names[0] != "train" and any(recipe.is_called(names[0]) for recipe in all_recipes()):
            raise UsageError(f"'{names[1]}' is not KEY=VALUE") from None
        raise
