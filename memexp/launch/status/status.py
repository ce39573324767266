"""How runs stand, read from their directories: state, agent steps, return, rate and time left."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from memexp.config import UsageError, count_name, did_you_mean
from memexp.launch.cloud import submissions
from memexp.launch.plan.expand import expand
from memexp.launch.plan.matrix import load_matrix
from memexp.launch.plan.throughput import rate_of
from memexp.launch.status.attempts import last_error, spent, starts_of
from memexp.launch.status.state import State, end_of, last_metrics, state_of
from memexp.runs import Run, RunInfo, find_runs, runs_dir


@dataclass(frozen=True)
class Status:
    """One run, as `memexp status` shows it; None where not known."""

    run: str
    state: State
    matrix: str | None = None
    env: str | None = None
    arm: str | None = None
    seed: int | None = None
    agent_steps: int = 0
    total_timesteps: int | None = None
    episode_return: float | None = None
    """Mean over the episodes of the last update in which one ended."""
    sps: float | None = None
    """Agent steps per second in the last update."""
    eta_s: float | None = None
    """Seconds left at that rate, of a run that runs."""
    reason: str | None = None
    """Why it ended as it did; of a run that failed, the last line that names an error."""
    job: int | None = None
    """Number of its managed job."""
    recoveries: int | None = None
    """How often SkyPilot has recovered it."""
    hours: float | None = None
    """Hours of machines so far, over all starts."""
    spent: float | None = None
    """Dollars so far, over all starts; None where a price is not known."""
    projected: float | None = None
    """Dollars when it is done: what is spent, and what is left at the measured rate and the present price."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def status_of(run: Run) -> Status:
    """The run's status; touches nothing."""
    state, outcome = state_of(run), end_of(run)
    if not run.exists():  # not begun, or failed before it could say what it is
        return Status(run.name, state, reason=outcome.reason if outcome else None)
    info, lines = info_of(run), last_metrics(run)
    if info is None:
        return Status(run.name, state, reason="run.json is damaged")
    steps = lines[-1].get("agent_steps", 0) if lines else outcome.agent_steps if outcome else 0
    left = max(0, info.total_timesteps - steps)
    rate = rate_of(run) or (lines[-1].get("sps") if lines else None)
    hours, dollars = spent(run) if starts_of(run) else (None, None)
    return Status(
        run.name,
        state,
        info.matrix,
        info.env,
        info.arm,
        info.seed,
        steps,
        info.total_timesteps,
        next((line["episode/return"] for line in reversed(lines) if line.get("episode/return") is not None), None),
        lines[-1].get("sps") if lines else None,
        left / rate if rate and state == "running" else None,
        (outcome.reason if outcome else None) or (last_error(run) if state == "failed" else None),
        hours=hours,
        spent=dollars,
        projected=_projected(dollars, left if state != "done" else 0, rate, info.price_per_hour),
    )


def _projected(dollars: float | None, left: int, rate: float | None, price: float | None) -> float | None:
    if dollars is None or not left:
        return dollars
    return dollars + left / rate / 3600 * price if rate and price is not None else None


def info_of(run: Run) -> RunInfo | None:
    """What the run is; None where run.json is damaged."""
    try:
        return run.info
    except (OSError, ValueError):
        return None


def matrix_of(run: Run) -> str | None:
    """The run's matrix; None where it has none, or where run.json is damaged."""
    info = info_of(run)
    return info.matrix if info else None


def find_targets(targets: Sequence[str]) -> list[Run]:
    """The runs that `targets` (run names, matrix names, matrix files) stand for; without targets, all there are
    and all that were submitted from here.

    A matrix file stands for all its cells, also those that have no directory yet, and for all runs of its name.
    Raises UsageError for a target that is none of these.
    """
    known = find_runs()
    there = {run.name for run in known}
    known += [Run.named(name) for name in submissions.read() if name not in there]
    if not targets:
        return known
    runs: dict[str, Run] = {}
    for target in targets:
        if target.endswith((".yaml", ".yml")):
            matrix = load_matrix(target)
            found = [Run.named(cell.run) for cell in expand(matrix, target)]
            found += [run for run in known if matrix_of(run) == matrix.name]
        else:
            found = [run for run in known if run.name == target] or of_matrix(known, target)
        runs |= {run.name: run for run in found}
    return list(runs.values())


def of_matrix(known: Sequence[Run], name: str) -> list[Run]:
    """The runs among `known` that belong to matrix `name`. Raises UsageError where none does."""
    submitted = submissions.read()
    matrices = {run.name: matrix_of(run) or (s.matrix if (s := submitted.get(run.name)) else None) for run in known}
    found = [run for run in known if matrices[run.name] == name]
    if not found:
        named = {matrix for matrix in matrices.values() if matrix}
        where = "" if matrices else f": there are no runs in {runs_dir()}"
        hint = did_you_mean(name, [*matrices, *named])
        if hint.startswith("; known") and named:
            hint = did_you_mean(name, named)  # not every run of them
        raise UsageError(f"no run and no matrix is called '{name}'{where}{hint}")
    return found


def status_view(statuses: Sequence[Status], todo: Mapping[str, str] | None = None) -> Group:
    """The statuses as a table, one row a run; below it what has failed and why, and the totals.

    With `todo`, run -> what to do about its arm, in a last column.
    """
    paid = any(s.spent is not None or s.projected is not None for s in statuses)
    headers = ("run", "state", "agent steps", "return", "steps/s", "left", *(("spent", "projected") if paid else ()))
    table = Table(*headers, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.columns[0].overflow = "fold"
    for column in table.columns[2:]:
        column.justify = "right"
    if todo is not None:
        table.add_column("next")
    for s in statuses:
        total = f" / {count_name(s.total_timesteps)}" if s.total_timesteps else ""
        table.add_row(
            s.run,
            f"{s.state} {s.recoveries}" if s.state == "recovering" else s.state,
            f"{s.agent_steps:,}{total}",
            "" if s.episode_return is None else f"{s.episode_return:.3f}",
            f"{s.sps:,.0f}" if s.sps else "",
            duration(s.eta_s),
            *((_money(s.spent), _money(s.projected)) if paid else ()),
            *([todo.get(s.run, "")] if todo is not None else []),
        )
    failed = [Text(f"failed: {s.run}: {s.reason}") for s in statuses if s.state == "failed" and s.reason]
    return Group(table, *failed, *([Text(totals(statuses))] if paid else []))


def totals(statuses: Sequence[Status]) -> str:
    """'3 done, 1 running; 12.5 h, $37.50 spent, $84 projected' (of the runs of which it is known)."""
    states = ", ".join(f"{number} {state}" for state, number in Counter(s.state for s in statuses).items())
    hours = sum(s.hours or 0.0 for s in statuses)
    spent, projected = sum(s.spent or 0.0 for s in statuses), sum(s.projected or s.spent or 0.0 for s in statuses)
    return f"{states}; {hours:,.1f} h, ${spent:,.2f} spent, ${projected:,.2f} projected"


def _money(dollars: float | None) -> str:
    return "" if dollars is None else f"${dollars:,.2f}"


def duration(seconds: float | None) -> str:
    """4000 -> '1h07m', 75 -> '1m15s'; nothing for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def find_matrix(target: str) -> tuple[str, list[Run]]:
    """(name, runs that exist) of a matrix file, a matrix, a run, a folder of runs, or FOLDER/MATRIX where it holds
    those of several. Raises UsageError for no run.

    A matrix goes before a run of the same name. A file stands for its matrix's name: runs launched with other seeds or
    steps than it lists now belong to it.
    Runs whose run.json is damaged may belong to any matrix: they are added, so that the answer names them.
    """
    if target.endswith((".yaml", ".yml")):
        name = load_matrix(target).name
        runs = [run for run in find_runs() if matrix_of(run) == name]
        if not runs:
            raise UsageError(f"no run of {target} has started: `memexp launch {target}`")
        return name, runs + damaged_runs()
    if Path(target).is_dir():
        runs = find_runs(target)
        if not runs:
            raise UsageError(f"there are no runs in {target}")
        matrices = {matrix_of(run) for run in runs if info_of(run)}
        only = matrices.pop() if len(matrices) == 1 else None
        return only or Path(target).resolve().name, runs
    folder = Path(target).parent
    if folder != Path() and (copied := find_runs(folder)):
        return Path(target).name, of_matrix(copied, Path(target).name)
    known = find_runs()
    one = [run for run in known if run.name == target]
    if one and not any(matrix_of(run) == target for run in known):
        return target, one
    return target, of_matrix(known, target) + damaged_runs()


def damaged_runs() -> list[Run]:
    return [run for run in find_runs() if info_of(run) is None]
