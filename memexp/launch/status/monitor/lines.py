"""The lines of a matrix's dashboard: a run, the runs of an arm that have not begun, or a whole arm."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.table import Table
from rich.text import Text

from memexp.launch.plan.plan import ranges
from memexp.launch.status.monitor import draw
from memexp.launch.status.monitor.draw import DASH, MARKS, RED
from memexp.launch.status.monitor.look import Look

COURSE = 8, 40
"""Fewest and most characters of a course."""
ENDED = ("completed", "failed", "cancelled")
LEFT = ("arm", "seed", "seeds", "state", "course", "furthest")
"""Columns of words; the others hold numbers."""


@dataclass(frozen=True)
class Line:
    """One line: what it is called, and the runs that it speaks of."""

    arm: str
    """Empty where it is that of the line above."""
    seeds: Text
    runs: Sequence[Look]


def lines_of(looks: Sequence[Look], by_arm: bool) -> list[Line]:
    """The lines of one environment, in the order in which its arms come."""
    lines = []
    for arm, members in grouped(looks, "arm").items():
        runs = sorted(members, key=_seed)
        if by_arm:
            lines.append(Line(arm, Text().join(Text(*MARKS[look.state]) for look in runs), runs))
            continue
        for waits, some in groupby(runs, key=lambda look: look.state == "waiting"):
            together = list(some)
            for part in [together] if waits else [[look] for look in together]:
                name = "" if lines and lines[-1].runs[0].arm == part[0].arm else arm
                lines.append(Line(name, Text(ranges([_seed(look) for look in part])), part))
    return lines


def _seed(look: Look) -> int:
    return look.seed or 0


def grouped(looks: Iterable[Look], by: str) -> dict[str, list[Look]]:
    groups: dict[str, list[Look]] = {}
    for look in looks:
        groups.setdefault(getattr(look, by) or DASH, []).append(look)
    return groups


def totals(looks: Iterable[Look]) -> dict[str, float | None]:
    """Agent steps done and to do, agent steps a second of the runs that run, and seconds left at that rate."""
    done = total = left = 0
    rate = 0.0
    for look in looks:
        budget = look.total_timesteps or look.agent_steps
        done += min(look.agent_steps, budget)
        total += budget
        left += max(0, budget - look.agent_steps) if look.state not in ENDED else 0
        rate += (look.sps or 0.0) if look.state == "running" else 0.0
    return {"agent_steps": done, "total_timesteps": total, "sps": rate or None, "eta_s": left / rate if rate else None}


def share_done(sums: dict[str, float | None]) -> float:
    return (sums["agent_steps"] or 0) / (sums["total_timesteps"] or 1)


class Columns:
    """The columns that fit into `width`, the same for all environments of a matrix."""

    def __init__(self, lines: Sequence[Line], width: int, by_arm: bool):
        for wide in (True, False):
            self.widths = _widths(lines, by_arm, wide)
            rest = width - sum(self.widths.values()) - len(self.widths) + 1
            if rest >= COURSE[0]:
                break
        self.widths["course"] = min(max(rest, COURSE[0]), COURSE[1])

    def table(self, lines: Sequence[Line], within: draw.Range) -> Table:
        """The lines of one environment, courses drawn `within` one scale."""
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
        for name, width in self.widths.items():
            side = "left" if name in LEFT else "right"
            table.add_column(name, width=width, no_wrap=True, overflow="ellipsis", justify=side)
        for line in lines:
            cells = self.cells(line, within)
            table.add_row(*(cells.get(name, Text()) for name in self.widths))
        return table

    def cells(self, line: Line, within: draw.Range) -> dict[str, Text]:
        """Column -> what stands there: of one run, or means, sums and the worst of several."""
        runs, first = line.runs, line.runs[0]
        known = {"arm": Text(line.arm), "seed": line.seeds, "seeds": line.seeds}
        known |= {"": Text(*MARKS[first.state]), "state": draw.state(first.state)}
        if not any(look.agent_steps for look in runs):
            return known
        sums, ages = totals(runs), [look.checkpoint_age_minutes for look in runs]
        use, oldest = mean(look.gpu_utilization for look in runs), max((age for age in ages if age), default=None)
        live = any(look.state in ("running", "stalled") for look in runs)
        words = {
            "done": draw.percent(share_done(sums)),
            "return": draw.number(mean(look.episode_return for look in runs)),
            "entropy": draw.percent(mean(look.entropy_share for look in runs)),
            "furthest": _furthest(runs),
            "GPU": DASH if use is None else f"{use:.0f} %",
            "saved": DASH if oldest is None else draw.time_left(oldest * 60),
            "steps/s": draw.steps(sums["sps"]) if live and sums["sps"] else "",
            "left": draw.time_left(sums["eta_s"]) if live else "",
        }
        known |= {name: Text(word) for name, word in words.items()}
        course = draw.sparkline(mean_course(runs, self.widths["course"]), within)
        return known | {"course": course, "gap": _gap(runs)}


WIDTHS = {"": 1, "state": 13, "done": 5, "return": 6, "course": 0, "entropy": 7, "gap": 7, "GPU": 5, "saved": 6}
WIDTHS |= {"steps/s": 7, "left": 6}


def _widths(lines: Sequence[Line], by_arm: bool, wide: bool) -> dict[str, int]:
    """Column -> characters, that of the course still open; `wide` has words for the state, funnel, GPU, checkpoint."""
    names = ["arm", *(["seeds"] if by_arm else ["seed", "state"] if wide else ["", "seed"])]
    names += ["done", "return", "course", "entropy", "gap"]
    names += ["furthest", "GPU", "saved"] if wide else []
    longest = {
        "arm": max(len(line.arm) for line in lines),
        names[1] or "seed": max(len(line.seeds) for line in lines),
        "furthest": max(len(_furthest(line.runs)) for line in lines),
    }
    return {name: WIDTHS.get(name, max(len(name), longest.get(name, 0))) for name in [*names, "steps/s", "left"]}


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def mean_course(runs: Iterable[Look], points: int) -> list[float | None]:
    """The mean of the runs' courses over all the agent steps that they are to do, point by point."""
    courses = (look.course(points, look.total_timesteps) for look in runs)
    return [mean(values) for values in zip(*filter(None, courses), strict=True)]


def _gap(runs: Iterable[Look]) -> Text:
    """Whether acting and learning agree, by the run that is furthest from it."""
    measured = [look for look in runs if look.max_gap is not None]
    if not measured:
        return Text(DASH)
    worst = max(measured, key=lambda look: (look.max_gap or 0.0) / look.gap_limit)
    return Text("ok") if worst.consistent else Text(f"✗ {worst.max_gap:.0e}", RED)


def _furthest(runs: Sequence[Look]) -> str:
    """The last milestone of the funnel that is reached, and by what share of the agents."""
    names = dict.fromkeys(name for look in runs for name in look.funnel)
    shares = {name: mean(look.funnel.get(name) for look in runs) or 0.0 for name in names}
    reached = [name for name, share in shares.items() if share > 0]
    return f"{reached[-1]} {draw.percent(shares[reached[-1]])}" if reached else DASH
