"""What `memexp list` shows: rows of plain data, the name first."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from memexp.config import UsageError, bind_arguments, did_you_mean, parse_words
from memexp.cortex.config import CortexConfig
from memexp.cortex.cost import Cost, cost
from memexp.envs.config import ENVIRONMENTS
from memexp.launch.plan.recipe import all_recipes
from memexp.launch.status.status import status_of
from memexp.pattern import TOKENS, Pattern, parse_pattern
from memexp.runs import find_runs

Rows = list[dict[str, Any]]
COSTS = tuple(asdict(Cost()))
"""Keys of what a stack costs."""


def _recipes() -> Rows:
    return [{"recipe": recipe.name, "summary": recipe.summary} for recipe in all_recipes()]


def _environments() -> Rows:
    rows: Rows = []
    for name, config in ENVIRONMENTS.items():
        knobs = {key: field.default for key, field in config.model_fields.items() if key != "name"}
        summary = (config.__doc__ or "").partition("\n")[0]
        rows.append({"env": name, "summary": summary, "knobs": knobs})
    return rows


def _patterns(words: Sequence[str] = ()) -> Rows:
    """A row for a stack of each token alone, then one for `pattern=` if it is among the words.

    A token that cannot be built at these sizes has None for its figures, and a `reason`.
    """
    given = bind_arguments(cost, parse_words(words))
    asked = CortexConfig.parse(given)
    sizes = {key: getattr(asked, key) for key in ("d_hidden", "num_layers", "n_heads", "mem_len")}
    rows = [{"token": token, "summary": summary, **sizes} for token, summary in TOKENS.items()]
    for row in rows:
        try:
            row |= asdict(cost(row["token"], **sizes))
        except UsageError as error:
            row |= dict.fromkeys(COSTS) | {"reason": str(error)}
    if "pattern" in given:
        row = {"token": _name(asked.pattern), "summary": _meaning(asked.pattern)}
        rows.append({**row, **sizes, **asdict(cost(asked.pattern, **sizes))})
    return rows


def _name(pattern: Pattern) -> str:
    return pattern if isinstance(pattern, str) else f"[{', '.join(pattern)}]"


def _meaning(pattern: Pattern) -> str:
    if not isinstance(pattern, str):
        return "one pattern a layer"
    tokens = parse_pattern(pattern)
    if len(tokens) == 1:
        return TOKENS[tokens[0]]
    return f"{', '.join(tokens[:-1])} and {tokens[-1]} as experts of one column, mixed by a router"


def pattern_table(rows: Rows) -> Table:
    """The rows of the list of patterns as a table; a row behind those of the tokens is set off."""
    sizes = "num_layers={num_layers} d_hidden={d_hidden} n_heads={n_heads} mem_len={mem_len}".format(**rows[0])
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"Stacks of one token: {sizes}",
        title_justify="left",
        title_style="bold",
        caption="Per agent: state carried in float32; FLOPs of one acting step, 2 a multiply-add of matrix products.",
        caption_justify="left",
    )
    table.add_column("token", no_wrap=True)
    table.add_column("what it is")
    for header in ("parameters", "state", "FLOPs"):
        table.add_column(header, justify="right", no_wrap=True)
    for number, row in enumerate(rows):
        if number == len(TOKENS):
            table.add_section()
        table.add_row(Text(row["token"]), *_cells(row))
    return table


def _cells(row: dict[str, Any]) -> list[Text]:
    if reason := row.get("reason"):
        return [Text(f"{row['summary']}\ncannot be built: {reason}"), *[Text("-")] * len(COSTS)]
    figures = f"{row['parameters']:,}", in_thousands(row["state_bytes"]) + "B", in_thousands(row["step_flops"])
    return [Text(row["summary"]), *(Text(figure.rstrip()) for figure in figures)]


def in_thousands(number: float) -> str:
    """Three digits and the prefix of a unit that may follow: 2228224 -> '2.23 M', 4096 -> '4.10 k', 40 -> '40 '."""
    power = 0
    while number >= 999.5 and power < len(PREFIXES) - 1:
        number, power = number / 1000, power + 1
    decimals = 0 if not power or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:,.{decimals}f} {PREFIXES[power]}"


PREFIXES = ("", "k", "M", "G", "T")


def _runs() -> Rows:
    rows = [status_of(run) for run in find_runs()]
    return [{"run": row.run, "state": row.state, "agent_steps": row.agent_steps} for row in rows]


def list_rows(what: str, words: Sequence[str] = ()) -> Rows:
    """The rows of one list. Raises UsageError for one that does not exist, and for words that mean nothing to it."""
    if what not in LISTS:
        raise UsageError(f"unknown list '{what}'{did_you_mean(what, LISTS)}")
    if what == "patterns":
        return _patterns(words)
    if words:
        raise UsageError(f"'{words[0]}' means nothing to the list of {what}: only `list patterns` takes KEY=VALUE")
    return LISTS[what]()


LISTS: dict[str, Callable[[], Rows]] = {
    "recipes": _recipes,
    "envs": _environments,
    "patterns": _patterns,
    "runs": _runs,
}
