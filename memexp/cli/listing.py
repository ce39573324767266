"""What `memexp list` shows: recipes, environments and their knobs, pattern tokens and their cost, matrix files, runs.

A list is rows of plain data, the name first. The effect of a knob is the docstring below its field in
memexp/envs/config.py.
"""

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from memexp.config import Config, UsageError, bind_arguments, did_you_mean, parse_overrides
from memexp.cortex.config import CortexConfig
from memexp.cortex.cost import Cost, cost
from memexp.envs.config import ENVIRONMENTS
from memexp.formatting import number, with_prefix
from memexp.launch.plan.recipe import all_recipes
from memexp.launch.status.status import status_of
from memexp.pattern import TOKENS, Pattern, parse_pattern
from memexp.project import entries
from memexp.runs import find_runs
from memexp.runs.status import State

Rows = list[dict[str, Any]]
COSTS = tuple(asdict(Cost()))
"""Keys of the cost of a stack."""
RUN_COLUMNS = {
    **{key: key for key in ("run", "state", "agent_steps", "total_timesteps")},
    "return": "episode_return",
    **{key: key for key in ("sps", "hours", "spent", "matrix", "env", "arm", "seed")},
}
"""Column of the list of runs -> field of RunStatus."""


def _recipes() -> Rows:
    return [{"recipe": recipe.name, "summary": recipe.summary} for recipe in all_recipes()]


def _environments() -> Rows:
    rows: Rows = []
    for name, config in ENVIRONMENTS.items():
        knobs = {key: field.default for key, field in config.model_fields.items() if key != "name"}
        summary = (config.__doc__ or "").partition("\n")[0]
        rows.append({"env": name, "summary": summary, "knobs": knobs})
    return rows + [
        {"env": name, "summary": f"any id=module:{place}", "knobs": {}} for name, place in entries("envs").items()
    ]


def _patterns(overrides: Sequence[str] = ()) -> Rows:
    """One row for a stack of each single token, and one for `pattern=` if it is among the overrides.

    Tokens are ours, and the names of the cells that installed packages offer. One that cannot be built at these sizes
    has None as its cost, and a `reason`. The cost of cells of others is counted, which imports them.
    """
    given = bind_arguments(cost, parse_overrides(overrides))
    asked = CortexConfig.parse(given)
    sizes = {key: getattr(asked, key) for key in ("d_hidden", "num_layers", "n_heads", "mem_len")}
    known = TOKENS | {name: f"{place}, of an installed package" for name, place in entries("cells").items()}
    rows = [{"token": token, "summary": summary, **sizes} for token, summary in known.items()]
    for row in rows:
        try:
            row |= asdict(cost(row["token"], **sizes, count=_counted_cost))
        except UsageError as error:
            row |= dict.fromkeys(COSTS) | {"reason": str(error)}
    if "pattern" in given:
        row = {"token": _name(asked.pattern), "summary": _meaning(asked.pattern)}
        rows.append({**row, **sizes, **asdict(cost(asked.pattern, **sizes, count=_counted_cost))})
    return rows


def _name(pattern: Pattern) -> str:
    return pattern if isinstance(pattern, str) else f"[{', '.join(pattern)}]"


def _counted_cost(token: str, sizes: CortexConfig) -> Cost:
    from memexp.cortex.own import counted_cost  # torch

    return counted_cost(token, sizes)


def _meaning(pattern: Pattern) -> str:
    if not isinstance(pattern, str):
        return "one pattern a layer"
    tokens = parse_pattern(pattern)
    if len(tokens) == 1:
        return TOKENS.get(tokens[0], "a cell of your own")
    return f"{', '.join(tokens[:-1])} and {tokens[-1]} as experts of one column, mixed by a router"


def pattern_table(rows: Rows) -> Table:
    """The rows of the list of patterns as a table; the row of `pattern=` is set off."""
    sizes = "num_layers={num_layers} d_hidden={d_hidden} n_heads={n_heads} mem_len={mem_len}".format(**rows[0])
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"Stacks of one token: {sizes}",
        title_justify="left",
        title_style="bold",
        caption="Per agent: state in float32; FLOPs of one acting step, 2 for each multiply-add of a matrix product.",
        caption_justify="left",
    )
    table.add_column("token", no_wrap=True)
    table.add_column("what it is")
    for header in ("parameters", "state", "FLOPs"):
        table.add_column(header, justify="right", no_wrap=True)
    for place, row in enumerate(rows):
        if place == len(TOKENS) + len(entries("cells")):
            table.add_section()
        table.add_row(Text(row["token"]), *_cells(row))
    return table


def _cells(row: dict[str, Any]) -> list[Text]:
    if reason := row.get("reason"):
        return [Text(f"{row['summary']}\ncost unknown: {reason}"), *[Text("-")] * len(COSTS)]
    figures = f"{row['parameters']:,}", with_prefix(row["state_bytes"]) + "B", with_prefix(row["step_flops"])
    return [Text(row["summary"]), *(Text(figure.rstrip()) for figure in figures)]


def matrix_files() -> dict[str, str]:
    """Name -> text of the matrix files that memexp brings along."""
    found = files("memexp").joinpath("experiments").iterdir()
    return {Path(file.name).stem: file.read_text("utf-8") for file in sorted(found, key=lambda one: one.name)}


def _matrices() -> Rows:
    """One row a matrix file, with the first sentence of the comment at its top."""
    comments = {name: " ".join(re.findall(r"^# (\S.*)", text, re.M)) for name, text in matrix_files().items()}
    return [{"matrix": name, "summary": re.split(r"(?<=[.?]) ", text)[0]} for name, text in comments.items()]


def _runs() -> Rows:
    return [{key: getattr(one, field) for key, field in RUN_COLUMNS.items()} for one in map(status_of, find_runs())]


def chosen(rows: Rows, wanted: Mapping[str, Sequence[str]], sort: str | None) -> Rows:
    """The runs that have, for each key that is given, one of its values; in the order of the key `sort` (-KEY: from the
    largest on), those without it last. Raises UsageError for an unknown key, and for a value that no run has."""
    for key, values in wanted.items():
        known = list(State) if key == "state" else {row[key] for row in rows if row[key] is not None}
        for value in values:
            if value not in known:
                option = "status" if key == "state" else key
                raise UsageError(f"--{option}: there is no run with {key} '{value}'{did_you_mean(value, known)}")
    rows = [row for row in rows if all(row[key] in values for key, values in wanted.items())]
    if sort is None:
        return rows
    key = sort.removeprefix("-")
    if key not in RUN_COLUMNS:
        raise UsageError(f"--sort: runs have no '{key}'{did_you_mean(key, RUN_COLUMNS)}")
    has = sorted((row for row in rows if row[key] is not None), key=lambda row: row[key], reverse=sort != key)
    return has + [row for row in rows if row[key] is None]


def run_table(rows: Rows) -> Table:
    """The runs as a table, one line each."""
    table = Table(*RUN_COLUMNS, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column, (key, _) in zip(table.columns, RUN_COLUMNS.items(), strict=True):
        column.no_wrap, column.overflow = key == "run", "fold"
    for row in rows:
        table.add_row(*(Text("" if value is None else _plain(value)) for value in row.values()))
    return table


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else number(value) if isinstance(value, float) else str(value)


def list_rows(what: str, overrides: Sequence[str] = ()) -> Rows:
    """The rows of one list. Raises UsageError for an unknown list, and for overrides that it does not take."""
    if what not in LISTS:
        raise UsageError(f"unknown list '{what}'{did_you_mean(what, LISTS)}")
    if what == "patterns":
        return _patterns(overrides)
    if overrides:
        raise UsageError(f"'{overrides[0]}' means nothing to the list of {what}: only `list patterns` takes KEY=VALUE")
    return LISTS[what]()


LISTS: dict[str, Callable[[], Rows]] = {
    "recipes": _recipes,
    "envs": _environments,
    "patterns": _patterns,
    "matrices": _matrices,
    "runs": _runs,
}


def knob_rows() -> Rows:
    """One row a knob: env, knob, default, range, effect."""
    rows: Rows = []
    for name, config in ENVIRONMENTS.items():
        effects, schema = field_docstrings(config), config.model_json_schema()
        for knob, field in config.model_fields.items():
            if knob != "name":
                taken = allowed(schema["properties"][knob])
                effect = effects.get(knob, "")
                rows.append({"env": name, "knob": knob, "default": field.default, "range": taken, "effect": effect})
    return rows


def field_docstrings(config: type[Config]) -> dict[str, str]:
    """Field -> its docstring in the source, on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


def allowed(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows: 'text', 'true, false', 'whole number, 1 to 64', 'list of: a, b'.

    A model of its own is its class's name.
    """
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(allowed, schema["anyOf"])))
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kind = schema.get("type")
    if kind == "array":
        number = "from, to" if schema.get("maxItems") == 2 else "list of"
        return f"{number}: {allowed(schema['items'])}"
    if kind in ("integer", "number"):
        return _bounds(schema, "whole number" if kind == "integer" else "number")
    if isinstance(each := schema.get("additionalProperties"), dict):
        return f"names, each with {allowed(each)}"
    named = {"boolean": "true, false", "null": "none", "string": "text", "object": "names and values"}
    return named.get(str(kind), "anything")


def _bounds(schema: dict[str, Any], kind: str) -> str:
    """'whole number, 1 to 64', 'number, 0 or more', 'number above 0', 'number above 0, at most 1', 'number'."""
    low, high = (schema.get(name, schema.get(short)) for name, short in (("minimum", "ge"), ("maximum", "le")))
    above = schema.get("exclusiveMinimum", schema.get("gt"))
    if above is not None and kind == "whole number":
        low, above = above + 1, None
    most = high if high is None else f"{high:,}" if high < 1e9 else f"{high:.0e}"
    if low is not None:
        return f"{kind}, {low:g} " + (f"to {most}" if most else "or more")
    return kind + (f" above {above:g}" if above is not None else "") + (f", at most {most}" if most else "")


def knob_list(rows: Rows) -> RenderableType:
    """The rows as text: for each environment lines `knob = default (range)`, with the effect below."""
    lines: list[RenderableType] = []
    for name, knobs in itertools.groupby(rows, key=lambda row: row["env"]):
        summary = (ENVIRONMENTS[name].__doc__ or "").partition("\n")[0]
        lines += [Text.assemble("\n" if lines else "", (name, "bold"), f"  {summary}")]
        for row in knobs:
            default = "none" if row["default"] is None else row["default"]
            lines.append(Text.assemble("  ", (row["knob"], "cyan"), f" = {default}  ", (f"({row['range']})", "dim")))
            lines.append(Padding(Text(row["effect"]), (0, 0, 0, 6)))
    return Group(*lines)
