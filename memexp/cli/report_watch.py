"""The verdicts while runs go on: what is certain, which runs to stop, and what to run next.

Verdicts may be computed any number of times, because their significance levels allow for a test after every seed
(analysis/alpha_spending.py).
"""

import time
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from memexp.analysis import sentences
from memexp.analysis.answer import Answer, answer
from memexp.analysis.formatting import kind_text
from memexp.analysis.sequential_plan import Action, Plan
from memexp.config import UsageError
from memexp.formatting import ranges
from memexp.launch.status.targets import find_matrix
from memexp.runs import Run
from memexp.runs.status import State, info_of, matrix_of, state_of

EVERY_S = 10.0
"""Seconds between two updates: computing the verdicts takes about a second."""


def watch(target: str, verdicts: Callable[[Answer], RenderableType], console: Console) -> None:
    """Show the verdicts and the next runs of `target` (a matrix or a folder of runs) until Ctrl-C."""
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                name, runs, notes, stated = find_matrix(target)
                found = answer(runs, name, stated)
                found.notes.extend(notes)
                live.update(Group(verdicts(found), plan_table(found), stop_line(found, runs)), refresh=True)
                time.sleep(EVERY_S)
        except KeyboardInterrupt:
            return


def plan_table(found: Answer) -> Table:
    """One row an arm: its seeds, its verdicts, and what to do about it."""
    table = Table("environment", "arm", "seeds", "learning", "memory", "next", "because", box=box.SIMPLE_HEAD)
    for env, judged in found.environments.items():
        for name, arm in judged.arms.items():
            plan, kind = judged.plans[name], judged.memory.kind_of(arm.arm.base)
            texts = (kind_text(arm.learning.state), kind_text(kind) if kind else "")
            table.add_row(env, name, str(len(arm.arm.seeds)), *texts, plan_text(plan), sentences.plan_text(plan))
    return table


def plan_text(plan: Plan) -> str:
    """'stop', 'wait', 'fix', or 'run seeds 5-9'."""
    return f"run seeds {ranges(plan.seeds, shortest=3)}" if plan.seeds else plan.action


def stop_line(found: Answer, runs: Sequence[Run]) -> Text:
    """The command that cancels the runs which can no longer change a verdict; empty if there are none."""
    waste = []
    for run in runs:
        if state_of(run) is State.RUNNING:
            plan = _plan_of(run, found)
            if plan and plan.action is Action.STOP:
                waste.append(run.name)
    return Text(f"stop paying: memexp cancel {' '.join(waste)}" if waste else "")


def plans(runs: Sequence[Run]) -> dict[str, str]:
    """Run -> what to do about its arm, for all runs that belong to a matrix."""
    texts: dict[str, str] = {}
    for matrix in {matrix_of(run) for run in runs} - {None}:
        mine = [run for run in runs if matrix_of(run) == matrix]
        try:
            found = answer(mine, str(matrix))
        except UsageError:
            continue
        texts |= {run.name: plan_text(plan) for run in mine if (plan := _plan_of(run, found))}
    return texts


def _plan_of(run: Run, found: Answer) -> Plan | None:
    """What to do about the run's arm; None if its run.json cannot be read."""
    info = info_of(run)
    judged = found.environments.get(info.env) if info else None
    return judged.plans.get(info.arm) if info and judged else None
