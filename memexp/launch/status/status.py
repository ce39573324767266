"""The table of `memexp status`: state, agent steps, return, rate, time left and dollars of each run."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from memexp.config import count_name
from memexp.formatting import dollars, duration, hours_text, number
from memexp.launch.status.attempts import last_error, spent, starts_of
from memexp.runs import Run
from memexp.runs.metrics import RECENT, RETURN, STEPS, WALL, latest, rate_over, recent_means, scored_records
from memexp.runs.status import RunStatus, State, end_of, info_of, known, last_metrics, lost_metrics, state_of


def status_of(run: Run) -> RunStatus:
    """The status of a run from its directory alone. Changes nothing."""
    problems: list[str] = []
    state, outcome, info = state_of(run), end_of(run, problems), info_of(run, problems)
    known(lambda: run.config, problems)  # to name it where it is damaged
    lines = last_metrics(run, problems)
    reason = (outcome.reason if outcome else None) or (last_error(run) if state is State.FAILED else None)
    if info is None:  # it has not begun, or failed before it could write run.json, or run.json is damaged
        return RunStatus(run=run.name, state=state, reason=reason, problems=tuple(problems))
    steps = int(latest(lines, STEPS) or 0)
    problems += lost_metrics(outcome, steps)
    steps = steps or (outcome.agent_steps if outcome else 0)
    left = 0 if state is State.COMPLETED else max(0, info.total_timesteps - steps)
    rate = rate_over(lines[-RECENT:])
    left_s = left / rate if rate else None
    wall_s = latest(lines, WALL)
    hours, paid = spent(run) if starts_of(run) else (None if wall_s is None else wall_s / 3600, None)
    return RunStatus(
        run=run.name,
        state=state,
        matrix=info.matrix,
        env=info.env,
        arm=info.arm,
        seed=info.seed,
        agent_steps=steps,
        total_timesteps=info.total_timesteps,
        episode_return=recent_means(known(lambda: scored_records(run.path / "metrics.jsonl")) or []).get(RETURN),
        sps=rate,
        eta_s=left_s if state is State.RUNNING else None,
        reason=reason,
        hours=hours,
        spent=paid,
        projected=_projected(paid, left, left_s, info.price_per_hour),
        problems=tuple(problems),
    )


def _projected(paid: float | None, left: int, left_s: float | None, price: float | None) -> float | None:
    """Dollars when the run is completed."""
    if paid is None or not left:
        return paid
    return None if left_s is None or price is None else paid + left_s / 3600 * price


def status_view(statuses: Sequence[RunStatus], todo: Mapping[str, str] | None = None) -> Group:
    """The statuses as a table with one row a run. Below it: what failed or cannot be read and why, and the totals.

    `todo` (run -> what to do about its arm) is shown in a last column.
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
            f"{s.state} {s.recoveries}" if s.state is State.RECOVERING else s.state,
            f"{s.agent_steps:,}{total}",
            "" if s.episode_return is None else number(s.episode_return),
            f"{s.sps:,.0f}" if s.sps else "",
            "" if s.eta_s is None else duration(s.eta_s),
            *((dollars(s.spent), dollars(s.projected)) if paid else ()),
            *([todo.get(s.run, "")] if todo is not None else []),
        )
    failed = [Text(f"failed: {s.run}: {s.reason}") for s in statuses if s.state is State.FAILED and s.reason]
    failed += [Text(f"{s.run}: {problem}") for s in statuses for problem in s.problems]
    return Group(table, *failed, *([Text(totals(statuses))] if paid else []))


def totals(statuses: Sequence[RunStatus]) -> str:
    """'3 completed, 1 running; 12.5 h, $37.50 spent, $84.00 projected', over the runs for which it is known."""
    states = ", ".join(f"{number} {state}" for state, number in Counter(s.state for s in statuses).items())
    hours = sum(s.hours or 0.0 for s in statuses)
    paid, projected = sum(s.spent or 0.0 for s in statuses), sum(s.projected or s.spent or 0.0 for s in statuses)
    return f"{states}; {hours_text(hours, 1, ' h')}, {dollars(paid)} spent, {dollars(projected)} projected"
