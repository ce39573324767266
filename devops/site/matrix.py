"""Writes the tables of docs/matrix.md and docs/settings.md: every key of a matrix file, and every setting of a run.

They are made of the models and the docstrings below their fields.

python devops/site/matrix.py
"""

import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from memexp.cli.listing import allowed, field_docstrings
from memexp.config import Config
from memexp.envs.config import ENVIRONMENTS
from memexp.launch.plan.matrix import OWN_KEYS, Environment, Filter, Matrix, Pilots, Range, Scale, Tuning
from memexp.launch.plan.resources import Resources
from memexp.ppo.config import TrainConfig

DOCS = Path(__file__).parents[2] / "docs"
START = "<!-- What follows is written by devops/site/matrix.py. -->"
SECTIONS: dict[type[Config], str] = {
    Matrix: "the file",
    Environment: "environments",
    Resources: "resources",
    Filter: "exclude",
    Scale: "scales",
    Range: "tune",
    Tuning: "tuning",
    Pilots: "pilots",
}
"""Model -> heading of its table."""
LINKS = {model.__name__: f"[these keys](#{name})" for model, name in SECTIONS.items()}


def matrix_tables() -> str:
    return "\n\n".join(table(name, model) for model, name in SECTIONS.items()) + "\n"


def settings_tables() -> str:
    parts = [table("run, seed, force", TrainConfig)]
    for group, field in TrainConfig.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            parts.append(table(group, field.annotation, f"{group}."))
    parts += [table(f"env: {name}", model, "env.") for name, model in ENVIRONMENTS.items()]
    return "\n\n".join(parts) + "\n"


PAGES = {"matrix.md": matrix_tables, "settings.md": settings_tables}
"""Page -> its tables."""


def table(name: str, model: type[Config], prefix: str = "") -> str:
    """The keys of a model under a heading, without those that have a table of their own."""
    about = "\n\n".join(textwrap.fill(text(one), 110) for one in (inspect.getdoc(model) or "").split("\n\n"))
    head = f"## {name}\n\n{about}\n\n| key | type | default | meaning |\n|---|---|---|---|"
    return "\n".join([head, *rows(model, prefix)])


def rows(model: type[Config], prefix: str) -> Iterator[str]:
    meanings, types = field_docstrings(model), model.model_json_schema()["properties"]
    for key, field in model.model_fields.items():
        is_group = model is TrainConfig and (key in ENVIRONMENTS or isinstance(field.default, Config))
        if is_group or (prefix == "env." and key == "name"):
            continue
        own = OWN_KEYS.get(prefix + key) if model not in SECTIONS else None
        meaning = meanings[key] + (f" The matrix sets it: use `{own}`." if own else "")
        kind = re.sub(r"\b[A-Z]\w+", lambda found: LINKS[found[0]], allowed(types[key]))
        kind = kind.removesuffix(" or none") if field.default is None else kind
        yield f"| `{prefix}{key}` | {kind} | {default(field)} | {text(meaning)} |"


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value: Any = field.default
    if isinstance(value, Config):
        return ""
    return "none" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def text(words: str) -> str:
    """Python's words as YAML's, with what Markdown would take for markup escaped."""
    words = re.sub(r"\b(None|True|False)\b", lambda found: found[0].lower(), words)
    return words.replace("|", "\\|").replace("<", "&lt;")


def written(page: str) -> str:
    """The text of a page with its tables as they are now."""
    head, _, _ = (DOCS / page).read_text().partition(START)
    return f"{head}{START}\n\n{PAGES[page]()}"


def main() -> None:
    for page in PAGES:
        (DOCS / page).write_text(written(page))


if __name__ == "__main__":
    main()
