"""The knobs of environments as `memexp list envs --knobs` prints them: default, range, unit and effect of each.

All of it stands in memexp/envs/config.py: the effect is the docstring under the field.
"""

import ast
import inspect
import itertools
import textwrap
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from memexp.config import Config
from memexp.envs.config import ENVIRONMENTS

Rows = list[dict[str, Any]]


def knob_rows() -> Rows:
    """One row a knob: env, knob, default, range, effect."""
    rows: Rows = []
    for name, config in ENVIRONMENTS.items():
        effects, schema = field_docstrings(config), config.model_json_schema()
        for knob, field in config.model_fields.items():
            if knob != "name":
                allowed = _allowed(schema["properties"][knob])
                effect = effects.get(knob, "")
                rows.append({"env": name, "knob": knob, "default": field.default, "range": allowed, "effect": effect})
    return rows


def field_docstrings(config: type[Config]) -> dict[str, str]:
    """Field -> the string that stands under it in the source, on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


def _allowed(schema: dict[str, Any]) -> str:
    """What values a JSON schema allows, in words: '1 to 64', 'true or false', 'two of 0 to 200', 'some of a, b'."""
    if "anyOf" in schema:
        return " or ".join(_allowed(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kind = schema.get("type")
    if kind == "array":
        number = "from, to" if schema.get("maxItems") == 2 else "any of"
        return f"{number}: {_allowed(schema['items'])}"
    if kind in ("integer", "number"):
        return _bounds(schema, "whole number" if kind == "integer" else "number")
    named = {"boolean": "true, false", "null": "none", "string": "text", "object": "names and values"}
    return named.get(str(kind), str(kind))


def _bounds(schema: dict[str, Any], kind: str) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{low} to {high:,}"
    if "exclusiveMinimum" in schema:
        return f"above {schema['exclusiveMinimum']}"
    return kind if low is None else f"{low} or more"


def knob_list(rows: Rows) -> RenderableType:
    """The rows to be read: under each environment `knob = default (range)`, its effect indented below."""
    lines: list[RenderableType] = []
    for name, knobs in itertools.groupby(rows, key=lambda row: row["env"]):
        summary = (ENVIRONMENTS[name].__doc__ or "").partition("\n")[0]
        lines += [Text.assemble("\n" if lines else "", (name, "bold"), f"  {summary}")]
        for row in knobs:
            default = "none" if row["default"] is None else row["default"]
            lines.append(Text.assemble("  ", (row["knob"], "cyan"), f" = {default}  ", (f"({row['range']})", "dim")))
            lines.append(Padding(Text(row["effect"]), (0, 0, 0, 6)))
    return Group(*lines)
