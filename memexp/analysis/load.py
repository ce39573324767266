"""Sorts runs into environments, arms and seeds, and decides which runs count; notes name the others."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from memexp.analysis.formatting import names_text
from memexp.analysis.same_environment import same_environments
from memexp.analysis.seeds import Arm, Environment, Seed
from memexp.analysis.statistics import iqm
from memexp.config import UsageError, did_you_mean
from memexp.formatting import short_count
from memexp.runs import MAX_GAP, Run, RunInfo
from memexp.runs.metrics import LACKING, lacks_metric
from memexp.runs.status import known, lost_metrics
from memexp.runs.wandb_source import WandbRun

REACHED = 0.95  # A run counts from this share of the budget on
KEEP = 0.8  # Arms are compared at the largest budget that this share of the (arm, seed) pairs reached, or will reach
ABOVE_CEILING = 0.01  # A ceiling may be a measured mean: an arm is above it from this share of the scale on
RULE = "first counts what reached the budget, then what was planned for it, is completed, and has most steps"
COLUMNS = (
    "episode/return", "episode/count", "episode/length", "eval/return", "consistency/max_logprob_gap", "wall_s",
    "policy/entropy",
)  # fmt: skip
STATISTICS = "env/"
FUNNEL = f"{STATISTICS}funnel/"
OF_ONE = ("success", "is_success")  # Metrics whose scale is 0 .. 1


def load(
    runs: Iterable[Run | WandbRun], matrix: str, stated: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[dict[str, Environment], list[str]]:
    """The environments of one matrix, and notes on run directories that cannot be read.

    `stated`: environment -> what the matrix file now says of it (fields of RunInfo), instead of what the runs recorded.
    `matrix` is a matrix name of the runs, or any name (a folder's) when they all belong to one. Raises UsageError
    where there are no runs, or where they belong to several matrices and `matrix` is none of them.
    """
    seeds, notes = list[Seed](), list[str]()
    found = [(run, known(partial(getattr, run, "info"), problems := list[str]()), problems) for run in runs]
    metrics = _metrics([info for _, info, _ in found if info], stated or {}, notes)
    for run, info, problems in found:
        if info and (metric := metrics[info.env]) != info.metric:
            info = info.model_copy(update={"metric": metric, "random_metric": None})
        seed = known(partial(read_seed, run, problems, info), problems) if info else None
        if seed and (now := (stated or {}).get(seed.info.env)):
            seed = replace(seed, info=seed.info.restated(now))
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
    groups: dict[str, list[Seed]] = {}
    for name in sorted({seed.info.env for seed in seeds}):
        same, more = same_environments(name, [seed for seed in seeds if seed.info.env == name])
        groups |= same
        notes += more
    environments = {name: _environment(name, members) for name, members in sorted(groups.items())}
    arms = [arm.base for environment in environments.values() for arm in environment.arms.values()]
    for name, environment in environments.items():
        environment.architectures = tuple(dict.fromkeys(arms))
        environment.trials = [seed for seed in trials if seed.info.env == name]
    return environments, notes


def read_seed(run: Run | WandbRun, problems: list[str] | None = None, info: RunInfo | None = None) -> Seed:
    """One run as columns; `info`: what it is, if that is known already.

    Raises OSError or ValueError if run.json or metrics.jsonl cannot be read, or if the metric cannot be judged. Any
    other damaged file counts as missing and is named in `problems`.
    """
    info = info or run.info
    is_return = info.metric == "return"
    columns = run.columns((*COLUMNS, LACKING + info.metric), FUNNEL if is_return else STATISTICS)
    if not is_return:
        info = _judged_by_metric(info, columns)
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
        reason=exit.reason if exit else "",
        precision=precision if precision in MAX_GAP else "float32",
        provenance={key: value for key, value in record.items() if isinstance(value, kinds.get(key, object))},
        agent_steps=columns["agent_steps"],
        returns=columns["episode/return"],
        counts=np.where(np.isnan(counts), 1.0, counts),
        evals=columns["eval/return"],
        gaps=columns["consistency/max_logprob_gap"],
        wall_s=columns["wall_s"],
        entropy=columns["policy/entropy"],
        lengths=columns["episode/length"],
        funnel={name: funnel[name] for name in dict.fromkeys([*order, *funnel])},
        config=config,
        horizon=known(lambda: run.horizon, problems),
    )


def _metrics(infos: Sequence[RunInfo], stated: Mapping[str, Mapping[str, Any]], notes: list[str]) -> dict[str, str]:
    """Environment -> the metric of which its runs are judged: that of the matrix file, else that of most runs."""
    recorded: dict[str, list[str]] = {}
    for info in infos:
        recorded.setdefault(info.env, []).append(info.metric)
    found: dict[str, str] = {}
    for env, names in recorded.items():
        found[env] = metric = stated.get(env, {}).get("metric") or Counter(names).most_common(1)[0][0]
        if others := sorted(set(names) - {metric}):
            notes.append(f"{env}: runs that were made for {names_text(others)} are judged by {metric}, too")
    return found


def _judged_by_metric(info: RunInfo, columns: dict[str, np.ndarray]) -> RunInfo:
    """The run with its metric in place of the return: in `columns`, which change, and in its reference levels.

    Raises ValueError if episodes ended of which none has it, with the metrics that exist, or of which some lack it.
    """
    found = [name.removeprefix(STATISTICS) for name in columns if name.startswith(STATISTICS) and FUNNEL not in name]
    if info.metric not in found and not np.isnan(columns["episode/return"]).all():
        raise ValueError(f"metric: no episode has '{info.metric}'{did_you_mean(info.metric, ['return', *found])}")
    missing = np.full(len(columns["agent_steps"]), np.nan)
    values = columns.get(STATISTICS + info.metric, missing)
    episodes = np.where(np.isnan(columns["episode/return"]), 0.0, np.nan_to_num(columns["episode/count"], nan=1.0))
    lacking = np.where(np.isnan(values), episodes, np.nan_to_num(columns[LACKING + info.metric]))
    if lacking.any():
        raise ValueError(lacks_metric(info.metric, lacking.sum(), episodes.sum()))
    columns["episode/return"] = values
    columns["eval/return"] = missing
    levels = {"ceiling_return": 1.0 if info.metric in OF_ONE else None, "random_return": info.random_metric}
    return info.model_copy(update={**levels, "memoryless_return": None, "oracle_return": None})


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
    if metrics := sorted({seed.info.metric for seed in seeds} - {"return"}):
        notes.append(f"judged by {', '.join(metrics)}: every return here is the mean of it over episodes")
    arms: dict[str, Arm] = {}
    for arm_name in sorted({seed.info.arm for seed in seeds}, key=lambda arm: (arm.partition("~")[0], arm)):
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
    ceiling, solved, memoryless, oracle = (
        _level([getattr(seed.info, f"{level}_return") for seed in seeds], level, notes)
        for level in ("ceiling", "solved", "memoryless", "oracle")
    )
    ceiling = _above_random(ceiling, "ceiling_return", random_returns, notes)
    solved = _above_random(solved, "solved_return", random_returns, notes)
    above = [arm.name for arm in arms.values() if ceiling is not None and _ends_above(arm, ceiling, random_returns)]
    if above:
        best = max(float(iqm(arms[name].finals)) for name in above)
        ends = "ends" if len(above) == 1 else "end"
        notes.append(f"{names_text(above)} {ends} at up to {best:.4g}, above ceiling_return {ceiling:g}: not used")
        ceiling = None
    if solved is not None and ceiling is not None and solved > ceiling:
        notes.append(f"solved_return {solved:g} is above ceiling_return {ceiling:g}: not used")
        solved = None
    if solved is not None and (who := next((seed.info.solved_by for seed in seeds if seed.info.solved_by), None)):
        notes.append(f"a return of {solved:g} counts as solved: {who}")
    environment = Environment(
        name, budget, random_returns, ceiling, arms, notes, memoryless, oracle, solved_return=solved
    )
    for arm in arms:
        if len(twins := [twin.name for twin in environment.twins(arm)]) > 1 and (best := environment.twin(arm)):
            notes.append(f"{arm} has the twins {names_text(twins)}: compared with {best.name}, the better one")
    return environment


def _above_random(value: float | None, what: str, random_returns: np.ndarray, notes: list[str]) -> float | None:
    if value is None or not len(random_returns) or value > random_returns.mean():
        return value
    notes.append(f"{what} {value:g} is not above the random policy's return: not used")
    return None


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


def _standing(seed: Seed, budget: int) -> tuple[bool, bool, bool, bool, int, str]:
    """Of two runs of one arm and seed, the one whose standing is higher counts: RULE."""
    reached, planned = seed.reached >= REACHED * budget, seed.info.total_timesteps == budget
    return reached, not math.isnan(seed.final(budget)), planned, seed.status == "completed", seed.reached, seed.run


def _arm(name: str, members: list[Seed], budget: int, notes: list[str]) -> Arm:
    arm = Arm(name, members[0].info, budget)
    for number in sorted({seed.info.seed for seed in members}):
        doubles = [seed for seed in members if seed.info.seed == number]
        doubles.sort(key=partial(_standing, budget=budget))
        best = doubles.pop()
        if doubles:
            others = names_text([seed.run for seed in doubles])
            notes.append(f"{name} seed {number} stands twice: {best.run} used, {others} left out ({RULE})")
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
