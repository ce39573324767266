"""The verdicts while runs go on: what is certain, which runs to stop, and what to run next.

Verdicts may be computed any number of times, because their significance levels allow for a test after every seed
(analysis/alpha_spending.py).
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from memexp.analysis.answer import answer
from memexp.config import UsageError
from memexp.formatting import ranges
from memexp.launch.status.targets import find_matrix
from memexp.runs import Run
from memexp.runs.status import State, matrix_of, state_of

EVERY_S = 10.0
"""Seconds between two updates: computing the verdicts takes about a second."""


def watch(target: str, verdicts: Callable[[dict[str, Any]], RenderableType], console: Console) -> None:
    """Show the verdicts and the next runs of `target` (a matrix or a folder of runs) until Ctrl-C."""
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                name, runs = find_matrix(target)
                found = answer(runs, name)
                live.update(Group(verdicts(found), plan_table(found), stop_line(found, runs)), refresh=True)
                time.sleep(EVERY_S)
        except KeyboardInterrupt:
            return


def plan_table(found: dict[str, Any]) -> Table:
    """One row an arm: its seeds, its verdicts, and what to do about it."""
    table = Table("environment", "arm", "seeds", "learning", "memory", "next", "because", box=box.SIMPLE_HEAD)
    for env, judged in found["environments"].items():
        pairs = judged["memory"]["per_arm"]
        for arm, row in judged["arms"].items():
            pair = pairs.get(arm.removesuffix("~"))
            verdicts = (row["learning"]["state"], pair["verdict"] if pair else "")
            plan = judged["sequential"]["per_arm"][arm]
            texts = (verdict.replace("_", " ") for verdict in verdicts)
            table.add_row(env, arm, str(row["seeds"]), *texts, plan_text(plan), plan["because"])
    return table


def plan_text(plan: dict[str, Any]) -> str:
    """'stop', 'wait', 'fix', or 'run seeds 5-9'."""
    return f"run seeds {ranges(plan['seeds'], shortest=3)}" if plan["seeds"] else plan["action"]


def stop_line(found: dict[str, Any], runs: Sequence[Run]) -> Text:
    """The command that cancels the runs which can no longer change a verdict; empty if there are none."""
    waste = []
    for run in runs:
        if state_of(run) is State.RUNNING:
            info = run.info
            judged = found["environments"].get(info.env)
            if judged and judged["sequential"]["per_arm"].get(info.arm, {}).get("action") == "stop":
                waste.append(run.name)
    return Text(f"stop paying: memexp cancel {' '.join(waste)}" if waste else "")


def plans(runs: Sequence[Run]) -> dict[str, str]:
    """Run -> what to do about its arm, for all runs that belong to a matrix."""
    texts: dict[str, str] = {}
    for matrix in {matrix_of(run) for run in runs} - {None}:
        mine = [run for run in runs if matrix_of(run) == matrix]
        try:
            found = answer(mine, str(matrix))["environments"]
        except UsageError:
            continue
        for run in mine:
            info = run.info
            texts[run.name] = plan_text(found[info.env]["sequential"]["per_arm"][info.arm])
    return texts
