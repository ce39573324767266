"""Recipes by name: any unique tail of the dotted name finds one.

They come from `recipes.py` or `recipes/` of the project, from the entry points `memexp.recipes` of installed packages,
and from memexp itself. Discovery reads source files. Only the recipe that is asked for is imported.
"""

import ast
import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import memexp.recipes
from memexp.config import UsageError
from memexp.ppo.config import TrainConfig
from memexp.project import ProjectFinder, entries, import_named, place_of

NAMESPACE = "recipes"
"""First part of the names of memexp's recipes and the project's."""
OWN = memexp.recipes.__name__


@dataclass(frozen=True)
class Recipe:
    """A function that returns a TrainConfig."""

    name: str
    """Dotted name, e.g. 'recipes.controls.tmaze'."""
    summary: str
    """First line of its docstring."""
    module: str
    """The module to import."""
    file: Path
    """The module's file."""

    def load(self) -> Callable[..., TrainConfig]:
        """The function. Raises UsageError where its module cannot be imported."""
        module = import_named(self.module, f"recipe '{self.name}'")
        if Path(module.__file__ or "").resolve() != self.file:
            raise UsageError(f"recipe '{self.name}': {module.__file__} hides {self.file}: name one of them differently")
        return getattr(module, self.name.rpartition(".")[2])

    def is_called(self, tail: str) -> bool:
        """True if the dotted name is, or ends in, `tail`."""
        return f".{self.name}".endswith(f".{tail}") or tail == f"{self.module}.{self.name.rpartition('.')[2]}"


def all_recipes() -> tuple[Recipe, ...]:
    """Every public function that is annotated to return a TrainConfig, sorted by name.

    Folders without `__init__.py` are not searched: an editor or a user may keep copies of recipes there.
    """
    return _all_recipes(tuple(ProjectFinder.folders))


@cache
def _all_recipes(folders: Sequence[str]) -> tuple[Recipe, ...]:
    own = Path(memexp.recipes.__path__[0]).resolve()
    found: dict[str, Recipe] = {}
    for folder in map(Path, folders):
        for place in (folder / f"{NAMESPACE}.py", folder / NAMESPACE):
            found = {recipe.name: recipe for recipe in _recipes_in(NAMESPACE, place.resolve())} | found
    for value in sorted(entries("recipes").values()):
        module, _, function = value.partition(":")
        if place := place_of(module):
            inside = _recipes_in(module, place.parent if place.name == "__init__.py" else place)
            found |= {one.name: one for one in inside if one.name.endswith(f".{function}" if function else "")}
    for recipe in _recipes_in(OWN, own):
        short = recipe.name.removeprefix("memexp.")
        found |= {recipe.name: recipe} if short in found else {short: replace(recipe, name=short)}
    return tuple(sorted(found.values(), key=lambda recipe: recipe.name))


def _recipes_in(name: str, place: Path) -> Iterator[Recipe]:
    """The recipes of the module `name`: `place` is its file, or the folder of the package."""
    files = place.rglob("*.py") if place.is_dir() else [place] if place.is_file() else []
    for path in files:
        *packages, _ = path.relative_to(place.parent).parents
        if not all((place.parent / package / "__init__.py").is_file() for package in packages[:-1]):
            continue
        inside = path.relative_to(place).with_suffix("").parts if path != place else ()
        module = ".".join([name, *inside]).removesuffix(".__init__")
        try:
            body = ast.parse(path.read_text("utf-8")).body
        except (OSError, SyntaxError, ValueError) as error:
            yield Recipe(module, f"{path} cannot be read: {error}", module, path)
            continue
        for node in (node for node in body if isinstance(node, ast.FunctionDef)):
            returns = ast.unparse(node.returns).rpartition(".")[2].strip("'\"") if node.returns else ""
            if returns == TrainConfig.__name__ and not node.name.startswith("_"):
                summary = (ast.get_docstring(node) or "").partition("\n")[0]
                yield Recipe(f"{module}.{node.name}", summary, module, path)


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
    tails: dict[str, str] = {}
    for recipe in all_recipes():
        parts = recipe.name.split(".")
        for at in range(len(parts)):
            tails.setdefault(".".join(parts[at:]), recipe.name)
    near = difflib.get_close_matches(wanted, tails, n=1, cutoff=0.6)
    hint = f"did you mean '{tails[near[0]]}'?" if near else "`memexp list recipes` shows all"
    broken = [f"; {recipe.summary}" for recipe in all_recipes() if recipe.name == recipe.module]
    raise UsageError(f"unknown recipe '{wanted}'; {hint}{''.join(broken)}")


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
