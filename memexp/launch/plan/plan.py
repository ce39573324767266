"""The plan of a launch: which runs, their states, what is left to do and what that costs. Writes nothing."""

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.table import Table

from memexp.config import count_name
from memexp.console import Console
from memexp.credentials import mask
from memexp.envs.config import ThirdParty
from memexp.envs.origin import origin_of
from memexp.formatting import counted, duration, hours_text, ranges
from memexp.launch.plan.cost import Estimate, Estimator, total
from memexp.launch.plan.prices import Price
from memexp.launch.plan.resources import Resources
from memexp.launch.plan.run_spec import RunSpec
from memexp.pattern import cell_modules
from memexp.ppo.config import RESUMABLE
from memexp.runs import Run, find_runs
from memexp.runs.identity import changes_between, refuse_another_experiment
from memexp.runs.status import State, info_of, reached, state_of


@dataclass(frozen=True)
class PlannedRun:
    """One run, its state, and what is left of it."""

    spec: RunSpec
    state: State
    estimate: Estimate | None
    """None where no figure is known."""
    is_later: bool = False
    """True if it can start only when others have ended; its settings may still change."""

    @property
    def is_due(self) -> bool:
        """True if a launch starts or resumes it."""
        return not self.is_later and self.state not in (State.COMPLETED, State.RUNNING)

    def as_dict(self) -> dict[str, Any]:
        config = self.spec.config
        return {
            "run": self.spec.run,
            "state": self.state,
            "later": self.is_later,
            "env": self.spec.env,
            "arm": config.arm,
            "memory": config.cortex.memory,
            "agent_steps": self.spec.agent_steps,
            "seed": config.seed,
            "arguments": [mask(word) for word in self.spec.arguments],
            "estimate": self.estimate and asdict(self.estimate),
        }


@dataclass(frozen=True)
class Plan:
    """All runs of one launch."""

    name: str
    runs: list[PlannedRun]
    resources: Resources | None
    """None: on this machine."""
    prices: dict[str, Price]
    """Kind of GPU -> price of one node, where it is known."""
    nodes: Sequence[str] = ()
    """Lines about what nodes get and install."""

    @property
    def due(self) -> list[RunSpec]:
        return [run.spec for run in self.runs if run.is_due]

    @property
    def cost(self) -> Estimate | None:
        """Hours and dollars of what is due, now or later; None where they are not known."""
        left = [run.estimate for run in self.runs if run.is_due or run.is_later]
        return total(left) if left else None

    @property
    def unknown(self) -> list[PlannedRun]:
        """What is due and has no figure, one run of each environment."""
        found: dict[str, PlannedRun] = {}
        for run in self.runs:
            if run.is_due and not run.estimate:
                found.setdefault(run.spec.env, run)
        return list(found.values())

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
            "nodes": [*self.nodes],
            "machine_hours": cost and cost.hours,
            "dollars": cost and cost.dollars,
            "estimate": cost and {"speed": cost.speed_basis, "price": cost.price_basis or None},
            "runs": [run.as_dict() for run in self.runs],
        }


def make_plan(
    name: str, specs: Sequence[RunSpec], resources: Resources | None, processes: int = 1, later: Sequence[RunSpec] = ()
) -> Plan:
    """The plan for `specs`, on `resources` in the cloud or (None) on this machine, with `processes` a run. Runs in
    `later` follow those.

    Raises UsageError for a run that exists as another experiment.
    """
    runs: list[PlannedRun] = []
    estimator = Estimator(resources, processes)
    for spec in specs:
        run = Run.named(spec.run)
        refuse_another_experiment(run, spec.config.model_dump(), RESUMABLE)
        runs.append(PlannedRun(spec, state_of(run), estimator.estimate(spec)))
    runs += [PlannedRun(spec, State.NEW, estimator.estimate(spec), is_later=True) for spec in later]
    return Plan(name, runs, resources, estimator.prices)


def changed_code(matrix: str) -> list[str]:
    """A line for each environment and cell whose code, as it is here now, is not that with which its runs trained."""
    trained: dict[tuple[str, str], tuple[dict[str, str], int]] = {}
    for run in find_runs():
        info = info_of(run)
        if info and info.matrix == matrix and reached(run):
            own = {f"'{info.env}'": info.environment, f"cells of '{info.arm.removesuffix('~')}'": info.cells}
            for name, code in ((name, code) for name, code in own.items() if code):
                _, count = trained.get(key := (name, str(code)), ({}, 0))
                trained[key] = code, count + 1
    lines: list[str] = []
    for (name, _), (old, count) in trained.items():
        if changes := changes_between(old, origin_of(old)):
            since = f"{name} changed since {counted(count, 'run')} trained: {changes}"
            lines.append(
                f"{since}; the report does not pool them with what is trained now "
                "(to train them again, give the matrix another name, or remove their directories)"
            )
    return lines


def print_plan(plan: Plan, console: Console, as_json: bool = False, at_once: int = 1) -> None:
    """The plan as a table of arms; below it the number of runs in each state, the machines and the cost.

    at_once: how many runs this machine trains at a time.
    """
    if as_json:
        console.file.write(json.dumps(plan.as_dict(), indent=2) + "\n")
        return
    names = ("environment", "arm", "steps", "seeds", "steps/s", "h/run", "$/run", "state")
    table = Table(*names, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns[:2]:
        column.overflow = "fold"
    for column in table.columns[4:7]:
        column.justify = "right"
    for row in _arms(plan):
        table.add_row(*row)
    console.print(table)
    for line in _summary(plan, at_once):
        console.print(line, soft_wrap=True)


def _arms(plan: Plan) -> Iterator[tuple[str, ...]]:
    """A row an arm; the trials of an arm, one a setting, are one row, too."""
    groups: dict[tuple[str, str, int, bool], list[PlannedRun]] = {}
    for run in plan.runs:
        arm, trial = run.spec.config.arm, run.spec.config.labels.tuning
        key = run.spec.env, trial["arm"] if trial else arm, run.spec.agent_steps, bool(trial)
        groups.setdefault(key, []).append(run)
    for (env, arm, steps, are_trials), runs in groups.items():
        if are_trials:
            arm += f", {counted(len({run.spec.config.arm for run in runs}), 'trial')}"
        seeds = ranges({run.spec.config.seed for run in runs})
        costs = [run.estimate for run in runs if run.estimate]
        cost = max(costs, key=lambda one: one.hours, default=None)  # that of a run that has not begun, if there is one
        figures = (
            (f"{cost.sps:,.0f}", hours_text(cost.hours, 2), _dollars(cost, 1)) if cost else ("unknown", "unknown", "")
        )
        yield env, arm, count_name(steps), seeds, *figures, _states(runs)


def _summary(plan: Plan, at_once: int) -> Iterator[str]:
    """States, machines, hours and dollars, and where the figures come from."""
    steps = f" ({count_name(sum(spec.agent_steps for spec in plan.due))} agent steps)" if plan.due else ""
    later = sum(run.is_later for run in plan.runs)
    then = f", {later} when these have ended" if later else ""
    yield f"{counted(len(plan.runs), 'run')}: {_states(plan.runs)}; {len(plan.due)} to launch{then}{steps}"
    configs = [run.spec.config for run in plan.runs]
    modules = {module for one in configs if isinstance(one.env, ThirdParty) for module, _ in one.env.imports}
    modules |= {module for one in configs for module, _ in cell_modules(one.cortex.pattern)}
    if modules:
        yield f"they import {', '.join(sorted(modules))}"
    if plan.resources:
        yield f"each on {plan.resources}"
    yield from plan.nodes
    if cost := plan.cost:
        together = f", {duration(3600 * cost.hours / at_once)} with {at_once} runs at a time" if at_once > 1 else ""
        yield _hours_and_dollars(cost) + together
        yield f"  steps/s: {cost.speed_basis}"
        if plan.resources:
            yield "  not counted: the minutes that nodes take to start, which are paid, too"
        if cost.price_basis and plan.resources:
            yield f"  prices: {cost.price_basis}"
        elif plan.resources and not plan.resources.is_own:
            yield "  prices: none is known for these machines"
    elif unknown := plan.unknown:
        names = ", ".join(run.spec.env for run in unknown)
        yield f"hours and dollars: unknown; never timed on {_kinds(plan)}: {names}"
        yield f"  {how_to_measure(plan)}"
        known = [run.estimate for run in plan.runs if run.is_due and run.estimate]
        if rest := total(known) if known else None:
            yield f"the other {counted(len(known), 'run')}: {_hours_and_dollars(rest)}"
            yield f"  steps/s: {rest.speed_basis}"


def how_to_measure(plan: Plan) -> str:
    """What to type so that the hours of a plan are known."""
    command = f"`memexp bench {shlex.join(mask(word) for word in plan.unknown[0].spec.experiment)}`"
    if plan.resources:
        return f"time it on such a machine, {command}, or run a seed there first: its rate counts"
    return f"`--scout` times one run of each environment and pattern here, about 2 minutes in all; or {command}"


def _kinds(plan: Plan) -> str:
    return " or ".join(plan.resources.kinds) if plan.resources else "this machine"


def _states(runs: Sequence[PlannedRun]) -> str:
    """'3 done, 2 new'."""
    states = Counter("later" if run.is_later else run.state for run in runs)
    return ", ".join(f"{number} {state}" for state, number in states.items())


def _hours_and_dollars(cost: Estimate) -> str:
    total = hours_text(cost.hours, 1, " machine hours")
    total += "" if "hours" in total else " of machine time"
    return total + (f", ${dollars}" if (dollars := _dollars(cost, 0)) else "")


def _dollars(cost: Estimate, decimals: int) -> str:
    """'430-1,434'; nothing where not known, or free."""
    known = [one for one in cost.dollars or [] if one]
    decimals = decimals if min(known, default=1.0) >= 1 else 2
    return "-".join(dict.fromkeys(f"{max(one, 0.01):,.{decimals}f}" for one in known))
