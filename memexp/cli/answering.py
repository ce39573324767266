"""Commands that answer: the report, and the lists of what there is to ask about."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from memexp.cli.common import AsJson
from memexp.config import UsageError


def report(
    target: Annotated[str, typer.Argument(metavar="MATRIX|RUNS_DIR|wandb:ENTITY/PROJECT", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Where the page is written.", show_default=False)] = None,
    md: Annotated[
        Path | None, typer.Option("--md", help="Also write a paper's appendix (Markdown).", show_default=False)
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Also write every picture as PNG and SVG here.", show_default=False)
    ] = None,
    watch: Annotated[
        bool, typer.Option(help="Keep verdicts, and what to run next, up to date until Ctrl-C; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Answer the question: write the report, print its path and the verdicts."""
    if watch:
        if out or md or figures or as_json:
            raise UsageError("--watch writes nothing: leave out --out, --md, --figures and --json")
        from memexp.cli.report_files import verdict_table
        from memexp.cli.report_watch import watch as keep_watching

        return keep_watching(target, verdict_table, Console())
    from memexp.analysis.answer import answer_of
    from memexp.analysis.answer_json import answer_json
    from memexp.analysis.load import load
    from memexp.cli.report_files import runs_of, verdict_table, write_reports

    name, runs, notes = runs_of(target)
    environments, more = load(runs, name)
    notes += more
    found = answer_of(environments, notes, name)
    if as_json:
        print(json.dumps(answer_json(found), indent=2))
    written = []
    if out or md or figures or not as_json:
        written = write_reports(found, out, md, figures, page=not as_json)
    if not as_json:
        Console().print(verdict_table(found))
        for path in written:
            print(path)
    return None


def show(
    what: Annotated[str, typer.Argument(metavar="recipes|envs|patterns|runs", show_default=False)],
    words: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", show_default=False)] = None,
    knobs: Annotated[bool, typer.Option("--knobs", help="(envs) Default, range and effect of every knob.")] = False,
    as_json: AsJson = False,
) -> None:
    """List recipes, environments with their knobs, pattern tokens, or runs.

    `patterns` says what stacks cost, at sizes of your own: d_hidden=64 num_layers=3 n_heads=4 mem_len=16 pattern=AgSA.
    """
    from memexp.cli.listing import list_rows, pattern_table

    rows = list_rows(what, words or [])
    if knobs and what != "envs":
        raise UsageError(f"--knobs is for the list of envs, not of {what}")
    if knobs:
        from memexp.cli.knob_list import knob_list, knob_rows

        print(json.dumps(knob_rows(), indent=2)) if as_json else Console().print(knob_list(knob_rows()))
        return
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if what == "patterns":
        Console().print(pattern_table(rows))
        return
    for row in rows:
        first, *others = row.values()
        print(f"{first}  {'  '.join(str(other) for other in others)}".rstrip())
