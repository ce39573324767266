"""Sorts runs into environments, arms and seeds, and decides which runs count; notes name the others."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from memexp.analysis.formatting import names_text
from memexp.analysis.seeds import Arm, Environment, Seed, architecture_of
from memexp.analysis.statistics import iqm
from memexp.config import UsageError
from memexp.credentials import mask
from memexp.formatting import short_count
from memexp.runs import MAX_GAP, Run
from memexp.runs.status import known, lost_metrics
from memexp.runs.wandb_source import WandbRun

REACHED = 0.95  # A run counts from this share of the budget on
KEEP = 0.8  # Arms are compared at the largest budget that this share of the (arm, seed) pairs reached, or will reach
ABOVE_CEILING = 0.01  # A ceiling may be a measured mean: an arm is above it from this share of the scale on
COLUMNS = ("episode/return", "episode/count", "eval/return", "consistency/max_logprob_gap", "wall_s", "policy/entropy")
FUNNEL = "env/funnel/"


def load(runs: Iterable[Run | WandbRun], matrix: str) -> tuple[dict[str, Environment], list[str]]:
    """The environments of one matrix, and notes on run directories that cannot be read.

    `matrix` is a matrix name of the runs, or any name (a folder's) when they all belong to one. Raises UsageError
    where there are no runs, or where they belong to several matrices and `matrix` is none of them.
    """
    seeds, notes = list[Seed](), list[str]()
    for run in runs:
        problems: list[str] = []
        seed = known(partial(read_seed, run, problems), problems)
        seeds += [seed] if seed else []
        notes += [f"{run.name}: {problem}" for problem in problems]
    if not seeds:
        raise UsageError(f"no runs of '{matrix}' to report on" + (f": {notes[0]}" if notes else ""))
    matrices = {seed.info.matrix for seed in seeds}
    if matrix in matrices:
        seeds = [seed for seed in seeds if seed.info.matrix == matrix]
    elif len(matrices) > 1:
        names = sorted(name or "(no matrix)" for name in matrices)
        raise UsageError(
            f"'{matrix}' holds runs of several matrices ({', '.join(names)}); name one behind it: {matrix}/{names[-1]}"
        )
    trials = [seed for seed in seeds if seed.info.tuning]
    seeds = [seed for seed in seeds if not seed.info.tuning]
    if not seeds:
        raise UsageError(f"'{matrix}' has only runs that try settings so far: nothing to judge")
    names = sorted({seed.info.env for seed in seeds})
    found = {name: _environment(name, [seed for seed in seeds if seed.info.env == name]) for name in names}
    arms = [architecture_of(arm) for environment in found.values() for arm in environment.arms]
    for name, environment in found.items():
        environment.architectures = tuple(dict.fromkeys(arms))
        environment.trials = [seed for seed in trials if seed.info.env == name]
    return found, notes


def read_seed(run: Run | WandbRun, problems: list[str] | None = None) -> Seed:
    """One run as columns. Raises OSError or ValueError if run.json or metrics.jsonl cannot be read.

    Any other damaged file counts as missing and is named in `problems`.
    """
    info = run.info
    columns = run.columns(COLUMNS, FUNNEL)
    counts = columns["episode/count"]
    exit = known(lambda: run.exit, problems)
    if problems is not None:
        problems += lost_metrics(exit, max(columns["agent_steps"], default=0))
    saved: dict[str, Any] = known(lambda: run.config, problems) or {}
    config: dict[str, dict[str, Any]] = {key: value for key, value in saved.items() if isinstance(value, dict)}
    precision = str(config.get("trainer", {}).get("precision"))
    # An entry of the wrong type counts as missing.
    record = known(lambda: run.provenance, problems) or {}
    kinds = {"commit": str, "argv": list, "packages": dict}
    funnel = {name.removeprefix(FUNNEL): column for name, column in columns.items() if name.startswith(FUNNEL)}
    order = [name for name in info.random_funnel or {} if name in funnel]
    return Seed(
        run=run.name,
        info=info,
        status=exit.status if exit else "running",
        reason=mask(exit.reason) if exit else "",
        precision=precision if precision in MAX_GAP else "float32",
        provenance={key: value for key, value in record.items() if isinstance(value, kinds.get(key, object))},
        agent_steps=columns["agent_steps"],
        returns=columns["episode/return"],
        counts=np.where(np.isnan(counts), 1.0, counts),
        evals=columns["eval/return"],
        gaps=columns["consistency/max_logprob_gap"],
        wall_s=columns["wall_s"],
        entropy=columns["policy/entropy"],
        funnel={name: funnel[name] for name in dict.fromkeys([*order, *funnel])},
        config=config,
    )


def common_budget(seeds: Sequence[Seed]) -> int:
    """Agent steps to compare at: the largest budget that at least 80 % of the (arm, seed) pairs reached.

    A run under way counts with its planned budget, so that a short trial run beside it does not set the budget.
    """
    budgets = sorted({seed.info.total_timesteps for seed in seeds})
    reached = {
        budget: {
            (seed.info.arm, seed.info.seed)
            for seed in seeds
            if seed.reached >= REACHED * budget or (seed.status == "running" and seed.info.total_timesteps >= budget)
        }
        for budget in budgets
    }
    most = len(reached[budgets[0]])
    return max((b for b in budgets if most and len(reached[b]) >= KEEP * most), default=budgets[-1])


def _environment(name: str, seeds: list[Seed]) -> Environment:
    notes: list[str] = []
    budget = common_budget(seeds)
    budgets = sorted({seed.info.total_timesteps for seed in seeds})
    if len(budgets) > 1:
        notes.append(f"budgets differ ({', '.join(map(str, budgets))}): compared at {budget} agent steps")
    arms: dict[str, Arm] = {}
    for arm_name in sorted({seed.info.arm for seed in seeds}, key=lambda arm: (architecture_of(arm), arm)):
        members = [seed for seed in seeds if seed.info.arm == arm_name]
        arms[arm_name] = _arm(arm_name, members, budget, notes)
    if unmeasured := [arm for arm in arms.values() if arm.seeds and arm.consistent is None]:
        names = ", ".join(arm.name for arm in unmeasured)
        notes.append(
            f"{names}: acting and learning were never compared (consistency/max_logprob_gap), taken as consistent"
        )
    measured = [(s.info.seed, s.info.random_return) for s in seeds if s.info.random_return is not None]
    random = {number: value for number, value in measured if math.isfinite(value)}
    random_returns = np.array([random[number] for number in sorted(random)])
    ceiling, memoryless, oracle = (
        _level([getattr(seed.info, f"{player}_return") for seed in seeds], player, notes)
        for player in ("ceiling", "memoryless", "oracle")
    )
    if ceiling is not None and len(random_returns) and ceiling <= random_returns.mean():
        notes.append(f"ceiling_return {ceiling:g} is not above the random policy's return: not used")
        ceiling = None
    above = [arm.name for arm in arms.values() if ceiling is not None and _ends_above(arm, ceiling, random_returns)]
    if above:
        best = max(float(iqm(arms[name].finals)) for name in above)
        ends = "ends" if len(above) == 1 else "end"
        notes.append(f"{names_text(above)} {ends} at up to {best:.4g}, above ceiling_return {ceiling:g}: not used")
        ceiling = None
    return Environment(name, budget, random_returns, ceiling, arms, notes, memoryless, oracle)


def _ends_above(arm: Arm, ceiling: float, random_returns: np.ndarray) -> bool:
    """Whether an arm ends above a ceiling by more than the error of a measured ceiling."""
    floor = float(random_returns.mean()) if len(random_returns) else 0.0
    return bool(arm.seeds) and float(iqm(arm.finals)) > ceiling + ABOVE_CEILING * abs(ceiling - floor)


def _level(values: Sequence[float | None], what: str, notes: list[str]) -> float | None:
    """The highest of the returns that runs state as one level; None where no run does."""
    known = sorted({value for value in values if value is not None and math.isfinite(value)})
    if len(known) > 1:
        notes.append(f"runs name different {what} returns ({', '.join(f'{v:g}' for v in known)}): highest taken")
    return known[-1] if known else None


def _arm(name: str, members: list[Seed], budget: int, notes: list[str]) -> Arm:
    arm = Arm(name, members[0].info, budget)
    for number in sorted({seed.info.seed for seed in members}):
        doubles = [seed for seed in members if seed.info.seed == number]
        # Prefer a run that was planned for this budget (its schedules fit), then the one that got furthest.
        doubles.sort(key=lambda s: (s.reached >= REACHED * budget, s.info.total_timesteps == budget, s.reached, s.run))
        best = doubles.pop()
        if doubles:
            others = names_text([seed.run for seed in doubles])
            notes.append(f"{name} seed {number} stands twice: {best.run} used, {others} left out")
        if best.reached < REACHED * budget:
            arm.partial.append(best)
        elif math.isnan(best.final(budget)):
            notes.append(f"{best.run}: no finished episode with a return in the last tenth of its steps, left out")
            arm.partial.append(best)
        else:
            arm.seeds.append(best)
            if best.status == "failed":
                notes.append(f"{best.run}: failed ({best.reason or 'no reason given'}) past the budget, used")
    for status, count in Counter(seed.status for seed in arm.partial).items():
        stopped = [seed for seed in arm.partial if seed.status == status]
        names = names_text([seed.run for seed in stopped])
        short = f": ended at {short_count(max(s.reached for s in stopped))} of {short_count(budget)} agent steps"
        why = next((f": {seed.reason}" for seed in stopped if seed.reason), short if status == "completed" else "")
        notes.append(f"{name}: {count} {status} ({names}), not counted{why}")
    return arm
