"""The dashboard of a matrix: one line a run, or one line an arm if the runs do not fit, grouped by environment."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from memexp.formatting import DASH, duration, number, percent, ranges, short_count
from memexp.launch.status.monitor import draw
from memexp.launch.status.monitor.draw import BLUE, MARKS, ORANGE, RED
from memexp.launch.status.monitor.snapshot import RunSnapshot
from memexp.runs.identity import different_code
from memexp.runs.status import State

AXIS, CHART = 8, 12
"""Width of the axis and lines of the chart in which curves stand over one another."""
CURVE_WIDTH = 8, 40
"""Fewest and most characters of a curve."""
WIDTHS = {"": 1, "state": 13, "done": 5, "curve": 0, "gap": 7, "GPU": 5, "saved": 6, "left": 6}
"""Column -> characters; other columns are as wide as their text."""
LEFT = ("arm", "seed", "seeds", "state", "curve", "furthest")
"""Columns of text; the others hold numbers and are aligned to the right."""
ENDED = (State.COMPLETED, State.FAILED, State.CANCELLED)


class ManyRuns:
    """Draws the runs of a matrix in the width of the terminal; `by_arm`: one line an arm instead of one line a run.

    curves: also draw the curves of an environment over one another.
    """

    def __init__(self, name: str, runs: Sequence[RunSnapshot], by_arm: bool = False, curves: bool = False):
        self.name, self.runs, self.by_arm, self.curves = name, runs, by_arm, curves

    @property
    def height(self) -> int:
        """Number of lines that it needs."""
        environments = grouped(self.runs, "env").values()
        alarms = sum(len(run.alarms) for run in self.runs) + len(changed_environments(self.runs))
        return 2 + sum(3 + len(lines_of(runs, self.by_arm)) for runs in environments) + alarms + bool(alarms)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width - 2
        lines = {env: lines_of(runs, self.by_arm) for env, runs in grouped(self.runs, "env").items()}
        columns = Columns([line for some in lines.values() for line in some], width, self.by_arm)
        charts = width if self.curves else 0
        tables = [part for env, some in lines.items() for part in _environment(env, some, columns, charts)]
        yield Padding(Group(*_heading(self.name, self.runs, width), *tables, *_alarms(self.runs)), (0, 1))


def counts(runs: Sequence[RunSnapshot]) -> dict[State, int]:
    """How many runs are in each state that occurs."""
    found = Counter(run.state for run in runs)
    return {state: found[state] for state in MARKS if found[state]}


def _heading(name: str, runs: Sequence[RunSnapshot], width: int) -> list[RenderableType]:
    line = Text.assemble((name, "bold"), f"   {len(runs)} runs  ")
    for state, count in counts(runs).items():
        mark, style = MARKS[state]
        line.append(f"   {mark} {count} {state}", style)
    sums = totals(runs)
    facts = f" {percent(share_done(sums))}".rjust(7)
    facts += f"   {sums['sps']:,.0f} steps/s" if sums["sps"] else ""
    facts += f"   {duration(sums['eta_s'])} left" if sums["eta_s"] else ""
    return [line, draw.bar(share_done(sums), max(10, width - len(facts)), BLUE) + Text(facts)]


def _environment(env: str, lines: Sequence[Line], columns: Columns, chart: int) -> list[RenderableType]:
    """One environment's heading and lines. All curves have one scale, which includes the random and ceiling returns.

    chart: characters of the curves over one another; 0: not drawn.
    """
    runs = [run for line in lines for run in line.runs]
    levels = {name: mean(getattr(run.info, f"{name}_return", None) for run in runs) for name in ("random", "ceiling")}
    heading = Text.assemble((env, "bold"), *((f"   {name} {number(v)}", "dim") for name, v in levels.items()))
    curves = [mean_curve(line.runs, columns.widths["curve"]) for line in lines]
    within = draw.span([value for curve in curves for value in curve], list(levels.values()))
    over = [*_over_one_another(lines, list(levels.values()), chart), Text()] if chart else []
    return [Text(), heading, *over, columns.table(lines, within)]


def _over_one_another(lines: Sequence[Line], levels: list[float | None], width: int) -> list[RenderableType]:
    """The curve of each arm, the mean over its runs, in one chart; below it, which is which."""
    runs = [run for line in lines for run in line.runs]
    begun = [line for line in lines_of(runs, by_arm=True) if any(len(run.curve) for run in line.runs)]
    shown, hidden = begun[: len(draw.LETTERS)], begun[len(draw.LETTERS) :]
    most = max((run.total_timesteps or run.agent_steps for run in runs), default=0)
    curves = [mean_curve(line.runs, width - AXIS, most) for line in shown]
    within = draw.span([value for curve in curves for value in curve], levels)
    labels = {0: number(within[1]), CHART - 1: number(within[0])}
    drawn = [
        Text.assemble((labels.get(y, "").rjust(AXIS - 1) + " ", "dim"), line)
        for y, line in enumerate(draw.overlay(curves, within, CHART))
    ]
    foot = Text(" " * AXIS + "0" + f"{short_count(most)} agent steps".rjust(width - AXIS - 1), "dim")
    legend = [Text.assemble(" " * AXIS, draw.mark([place]), f" {_legend(one)}") for place, one in enumerate(shown)]
    more = [Text(f"{' ' * AXIS}not drawn: {', '.join(map(_legend, hidden))}", "dim")] if hidden else []
    return [*drawn, foot, *legend, *more]


def _legend(line: Line) -> str:
    """'S  seeds 0-4  0.87': the arm, its seeds and its recent return."""
    recent = number(mean(run.episode_return for run in line.runs))
    return f"{line.runs[0].arm or DASH}  seed{'s' * (len(line.runs) > 1)} {ranges(map(_seed, line.runs))}  {recent}"


def _alarms(runs: Sequence[RunSnapshot]) -> list[RenderableType]:
    found = [f"{run.run}  {alarm}" for run in runs for alarm in run.alarms] + changed_environments(runs)
    lines = [Text.assemble(("! ", ORANGE), alarm) for alarm in found]
    return [Text(), *lines] if lines else []


def changed_environments(runs: Sequence[RunSnapshot]) -> list[str]:
    """A line for each environment whose runs trained with different code."""
    changes = {env: different_code(run.info for run in some if run.info) for env, some in grouped(runs, "env").items()}
    said = "runs trained with different code, which the report does not pool"
    return [f"{env}  {said}: {change}" for env, change in changes.items() if change]


@dataclass(frozen=True)
class Line:
    """One line of the table, for one run or for several."""

    arm: str
    """Empty if the line above has the same arm."""
    seeds: Text
    runs: Sequence[RunSnapshot]


def lines_of(runs: Sequence[RunSnapshot], by_arm: bool) -> list[Line]:
    """The lines of one environment, in the order of its arms. The new runs of an arm share a line."""
    lines: list[Line] = []
    for arm, members in grouped(runs, "arm").items():
        members.sort(key=_seed)
        if by_arm:
            lines.append(Line(arm, Text().join(Text(*MARKS[run.state]) for run in members), members))
            continue
        for is_new, some in groupby(members, key=lambda run: run.state is State.NEW):
            together = list(some)
            for part in [together] if is_new else [[run] for run in together]:
                name = "" if lines and lines[-1].runs[0].arm == part[0].arm else arm
                lines.append(Line(name, Text(ranges(map(_seed, part))), part))
    return lines


def _seed(run: RunSnapshot) -> int:
    return run.seed or 0


def grouped(runs: Iterable[RunSnapshot], by: str) -> dict[str, list[RunSnapshot]]:
    groups: dict[str, list[RunSnapshot]] = {}
    for run in runs:
        groups.setdefault(getattr(run, by) or DASH, []).append(run)
    return groups


def totals(runs: Iterable[RunSnapshot]) -> dict[str, float | None]:
    """Agent steps done and planned, agent steps per second of the runs that run, and seconds left at this rate."""
    done = total = left = 0
    rate = 0.0
    for run in runs:
        budget = run.total_timesteps or run.agent_steps
        done += min(run.agent_steps, budget)
        total += budget
        left += max(0, budget - run.agent_steps) if run.state not in ENDED else 0
        rate += (run.sps or 0.0) if run.state is State.RUNNING else 0.0
    return {"agent_steps": done, "total_timesteps": total, "sps": rate or None, "eta_s": left / rate if rate else None}


def share_done(sums: dict[str, float | None]) -> float:
    return (sums["agent_steps"] or 0) / (sums["total_timesteps"] or 1)


class Columns:
    """The columns that fit into `width`, the same for all environments of a matrix."""

    def __init__(self, lines: Sequence[Line], width: int, by_arm: bool):
        rest = 0
        for wide in (True, False):
            self.widths = _widths(lines, by_arm, wide)
            rest = width - sum(self.widths.values()) - len(self.widths) + 1
            if rest >= CURVE_WIDTH[0]:
                break
        self.widths["curve"] = min(max(rest, CURVE_WIDTH[0]), CURVE_WIDTH[1])

    def table(self, lines: Sequence[Line], within: draw.Range) -> Table:
        """The lines of one environment, with curves that show the range `within`."""
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
        for name, width in self.widths.items():
            side = "left" if name in LEFT else "right"
            table.add_column(name, width=width, no_wrap=True, overflow="ellipsis", justify=side)
        for line in lines:
            cells = self.cells(line, within)
            table.add_row(*(cells.get(name, Text()) for name in self.widths))
        return table

    def cells(self, line: Line, within: draw.Range) -> dict[str, Text]:
        """Column -> text: of one run, or the means, sums and worst values of several."""
        runs, first = line.runs, line.runs[0]
        known = {"arm": Text(line.arm), "seed": line.seeds, "seeds": line.seeds}
        known |= {"": Text(*MARKS[first.state]), "state": draw.state(first.state)}
        if not any(run.agent_steps for run in runs):
            return known
        sums, ages = totals(runs), [run.checkpoint_age_minutes for run in runs]
        use, oldest = mean(run.gpu_utilization for run in runs), max((age for age in ages if age), default=None)
        live = any(run.state in (State.RUNNING, State.STALLED) for run in runs)
        texts = {
            "done": percent(share_done(sums)),
            "return": number(mean(run.episode_return for run in runs)),
            "entropy": percent(mean(run.entropy_share for run in runs)),
            "furthest": _furthest(runs),
            "GPU": DASH if use is None else f"{use:.0f} %",
            "saved": DASH if oldest is None else duration(oldest * 60),
            "steps/s": short_count(sums["sps"]) if live and sums["sps"] else "",
            "left": duration(sums["eta_s"]) if live else "",
        }
        known |= {name: Text(text) for name, text in texts.items()}
        curve = draw.sparkline(mean_curve(runs, self.widths["curve"]), within)
        return known | {"curve": curve, "gap": _gap(runs)}


def _widths(lines: Sequence[Line], by_arm: bool, wide: bool) -> dict[str, int]:
    """Column -> characters, 0 for the curve; `wide` adds state, furthest milestone, GPU and checkpoint."""
    names = ["arm", *(["seeds"] if by_arm else ["seed", "state"] if wide else ["", "seed"])]
    names += ["done", "return", "curve", "entropy", "gap"]
    names += ["furthest", "GPU", "saved"] if wide else []
    longest = {
        "arm": max(len(line.arm) for line in lines),
        names[1] or "seed": max(len(line.seeds) for line in lines),
        "furthest": max(len(_furthest(line.runs)) for line in lines),
    }
    return {name: WIDTHS.get(name, max(len(name), longest.get(name, 0))) for name in [*names, "steps/s", "left"]}


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the known values; None if there is none."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def mean_curve(runs: Iterable[RunSnapshot], points: int, until: int | None = None) -> list[float | None]:
    """The mean of the runs' smoothed returns over all their planned agent steps, or up to `until`, point by point."""
    curves = (run.smoothed(points, until or run.total_timesteps) for run in runs)
    return [mean(values) for values in zip(*filter(None, curves), strict=True)]


def _gap(runs: Iterable[RunSnapshot]) -> Text:
    """Whether acting and learning agree in all runs; else the largest gap."""
    measured = [run for run in runs if run.max_gap is not None]
    if not measured:
        return Text(DASH)
    worst = max(measured, key=lambda run: (run.max_gap or 0.0) / run.gap_limit)
    return Text("ok") if worst.consistent else Text(f"✗ {worst.max_gap:.0e}", RED)


def _furthest(runs: Sequence[RunSnapshot]) -> str:
    """The last milestone of the funnel that was reached, and the share of agents that reached it."""
    names = dict.fromkeys(name for run in runs for name in run.funnel)
    shares = {name: mean(run.funnel.get(name) for run in runs) or 0.0 for name in names}
    reached = [name for name, share in shares.items() if share > 0]
    return f"{reached[-1]} {percent(shares[reached[-1]])}" if reached else DASH
