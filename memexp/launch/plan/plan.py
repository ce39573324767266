"""The plan of a launch: which runs, how each stands, what is left to do and what that costs. Touches nothing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from memexp.config import UsageError, count_name
from memexp.formatting import counted, ranges
from memexp.launch.plan.cost import Estimate, Estimator, total
from memexp.launch.plan.resources import Resources
from memexp.launch.plan.run_spec import RunSpec
from memexp.ppo.config import RESUMABLE
from memexp.runs import Run
from memexp.runs.identity import refuse_another_experiment
from memexp.runs.status import State, state_of


@dataclass(frozen=True)
class PlannedRun:
    """One cell, how its run stands, and what it takes."""

    cell: RunSpec
    state: State
    estimate: Estimate | None
    """None where no figure is known."""

    @property
    def is_due(self) -> bool:
        """Whether a launch starts or resumes it."""
        return self.state not in (State.COMPLETED, State.RUNNING)


@dataclass(frozen=True)
class Plan:
    """All runs of one launch."""

    name: str
    runs: list[PlannedRun]
    resources: Resources | None
    """None: on this machine."""

    @property
    def due(self) -> list[RunSpec]:
        return [run.cell for run in self.runs if run.is_due]

    @property
    def cost(self) -> Estimate | None:
        """Hours and dollars of what is due; None where not known."""
        return total([run.estimate for run in self.runs if run.is_due]) if self.due else None

    @property
    def counts(self) -> dict[str, int]:
        """State -> number of runs."""
        return dict(Counter(run.state for run in self.runs))

    def as_dict(self) -> dict[str, Any]:
        """What --json prints."""
        cost = self.cost
        return {
            "name": self.name,
            "where": "cloud" if self.resources else "local",
            "total": len(self.runs),
            "due": len(self.due),
            "counts": self.counts,
            "resources": self.resources.model_dump() if self.resources else None,
            "machine_hours": cost and cost.hours,
            "dollars": [cost.dollars_low, cost.dollars_high] if cost and cost.dollars_high is not None else None,
            "estimate": cost and {"speed": cost.speed_basis, "price": cost.price_basis or None},
            "runs": [_as_dict(run) for run in self.runs],
        }


def _as_dict(run: PlannedRun) -> dict[str, Any]:
    config = run.cell.config
    return {
        "run": run.cell.run,
        "state": run.state,
        "env": run.cell.env,
        "arm": config.arm,
        "memory": config.cortex.memory,
        "agent_steps": run.cell.agent_steps,
        "seed": config.seed,
        "arguments": run.cell.arguments,
        "estimate": run.estimate and asdict(run.estimate),
    }


def make_plan(name: str, cells: Sequence[RunSpec], resources: Resources | None) -> Plan:
    """The plan for `cells`, on `resources` in the cloud or (None) on this machine.

    Raises UsageError for a run that exists as another experiment.
    """
    runs = []
    estimator = Estimator(resources)
    for cell in cells:
        run = Run.named(cell.run)
        try:
            refuse_another_experiment(run, cell.config.model_dump(), RESUMABLE)
        except (OSError, UnicodeDecodeError, AttributeError, yaml.YAMLError) as error:
            why = f"its config.yaml cannot be read ({type(error).__name__})"
            raise UsageError(f"run '{run.name}' exists but {why}: give the new run another name") from None
        runs.append(PlannedRun(cell, state_of(run), estimator.estimate(cell)))
    return Plan(name, runs, resources)


def print_plan(plan: Plan, console: Console) -> None:
    """The plan as a table of arms, the runs by state, and what is due takes."""
    table = Table(
        "environment",
        "arm",
        "steps",
        "seeds",
        "steps/s",
        "h/run",
        "$/run",
        "state",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in table.columns[:2]:
        column.overflow = "fold"
    for column in table.columns[4:7]:
        column.justify = "right"
    for row in _arms(plan):
        table.add_row(*row)
    console.print(table)
    states = ", ".join(f"{number} {state}" for state, number in plan.counts.items())
    number = counted(len(plan.runs), "run")
    console.print(f"{number}: {states}; {len(plan.due)} to launch", highlight=False, soft_wrap=True)
    if plan.resources:
        console.print(f"each on {describe(plan.resources)}", highlight=False, soft_wrap=True)
    for line in _cost_lines(plan):
        console.print(line, highlight=False, soft_wrap=True)


def _cost_lines(plan: Plan) -> Iterator[str]:
    """Hours and dollars of what is due, and where the figures come from."""
    if cost := plan.cost:
        yield f"{cost.hours:,.1f} machine hours" + (f", ${dollars}" if (dollars := _dollars(cost, 0)) else "")
        yield f"  steps/s: {cost.speed_basis}"
        if cost.price_basis and plan.resources:
            yield f"  prices: {cost.price_basis}"
        elif plan.resources and not plan.resources.is_own:
            yield "  prices: none is known for these machines"
    elif plan.due and plan.resources:
        yield "hours and dollars: no figure is known for these machines"


def _dollars(cost: Estimate, decimals: int) -> str:
    """'430-1,434'; nothing where not known, or free."""
    bounds = [one for one in (cost.dollars_low, cost.dollars_high) if one]
    return "-".join(dict.fromkeys(f"{one:,.{decimals}f}" for one in bounds))


def _arms(plan: Plan) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, str, int], list[PlannedRun]] = {}
    for run in plan.runs:
        groups.setdefault((run.cell.env, run.cell.config.arm, run.cell.agent_steps), []).append(run)
    rows = []
    for (env, arm, steps), runs in groups.items():
        states = Counter(run.state for run in runs)
        seeds = ranges([run.cell.config.seed for run in runs])
        costs = [run.estimate for run in runs if run.estimate]
        cost = max(costs, key=lambda one: one.hours, default=None)  # that of a run that has not begun, if there is one
        figures = (f"{cost.sps:,.0f}", f"{cost.hours:.2f}", _dollars(cost, 1)) if cost else ("", "", "")
        state = ", ".join(f"{n} {state}" for state, n in states.items())
        rows.append((env, arm, count_name(steps), seeds, *figures, state))
    return rows


def describe(resources: Resources) -> str:
    """'8x L4 or A10G, spot first, at most 24 h'."""
    kinds = f"{resources.gpus}x {' or '.join(resources.accelerators)}" if resources.gpus else "CPUs"
    market = {True: "spot only", False: "on demand", None: "spot first" if resources.uses_spot else "on demand"}
    parts = [f"{resources.nodes} nodes of {kinds}" if resources.nodes > 1 else kinds, market[resources.spot]]
    if places := [place for place in resources.places if place]:
        parts.append(f"in {' or '.join(places)}")
    if resources.max_runtime_hours:
        parts.append(f"at most {resources.max_runtime_hours:g} h")
    return ", ".join(parts)
