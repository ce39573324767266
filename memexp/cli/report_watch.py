"""The answer while its runs are under way: what is certain, which runs not to pay for any longer, what to run next.

The answer may be asked for at any time: the levels of the verdicts allow for an analysis after every seed
(analysis/alpha_spending.py).
"""

import time
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from memexp.analysis.answer import Answer, answer
from memexp.analysis.formatting import kind_text
from memexp.analysis.sentences import plan_text
from memexp.analysis.sequential_plan import Action, Plan
from memexp.config import UsageError
from memexp.launch.status.state import state_of
from memexp.launch.status.status import find_matrix, matrix_of
from memexp.runs import Run

LOOK_S = 10.0
"""Seconds between two looks: an answer takes a second or so to compute."""


def watch(target: str, verdicts: Callable[[Answer], RenderableType], console: Console) -> None:
    """Show the verdicts and the plan of `target`, a matrix or a folder of runs, until Ctrl-C."""
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                name, runs = find_matrix(target)
                found = answer(runs, name)
                live.update(Group(verdicts(found), plan_table(found), stop_line(found, runs)), refresh=True)
                time.sleep(LOOK_S)
        except KeyboardInterrupt:
            return


def plan_table(found: Answer) -> Table:
    """One row an arm: seeds at hand, its verdicts, and what to do about it."""
    table = Table("environment", "arm", "seeds", "learning", "memory", "next", "because", box=box.SIMPLE_HEAD)
    for env, judged in found.environments.items():
        for name, arm in judged.arms.items():
            plan, kind = judged.plans[name], judged.memory.kind_of(name.removesuffix("~"))
            named = arm.learning.state.replace("_", " "), kind_text(kind) if kind else ""
            table.add_row(env, name, str(len(arm.arm.seeds)), *named, plan_words(plan), plan_text(plan))
    return table


def plan_words(plan: Plan) -> str:
    """'stop', 'wait', 'fix', or 'run seeds 5-9'."""
    if not plan.seeds:
        return plan.action
    first, last = plan.seeds[0], plan.seeds[-1]
    whole = len(plan.seeds) > 2 and plan.seeds == list(range(first, last + 1))
    return f"run seeds {f'{first}-{last}' if whole else ', '.join(map(str, plan.seeds))}"


def stop_line(found: Answer, runs: Sequence[Run]) -> Text:
    """The command that stops the runs which can no longer change a verdict; empty where there is none."""
    waste = []
    for run in runs:
        if state_of(run) == "running":
            info = run.info
            judged = found.environments.get(info.env)
            plan = judged.plans.get(info.arm) if judged else None
            if plan and plan.action is Action.STOP:
                waste.append(run.name)
    return Text(f"stop paying: memexp cancel {' '.join(waste)}" if waste else "")


def plans(runs: Sequence[Run]) -> dict[str, str]:
    """Run -> what to do about its arm, for the runs of every matrix among `runs`."""
    words: dict[str, str] = {}
    for matrix in {matrix_of(run) for run in runs} - {None}:
        mine = [run for run in runs if matrix_of(run) == matrix]
        try:
            found = answer(mine, str(matrix)).environments
        except UsageError:
            continue
        for run in mine:
            info = run.info
            words[run.name] = plan_words(found[info.env].plans[info.arm])
    return words
