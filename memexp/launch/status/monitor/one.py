"""The dashboard of one run: progress, return, funnel, and signs of trouble."""

import math

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from memexp.config import count_name
from memexp.formatting import DASH, duration, number, percent, short_count
from memexp.launch.status.monitor import draw
from memexp.launch.status.monitor.draw import BLUE, ORANGE, RED
from memexp.launch.status.monitor.snapshot import RunSnapshot
from memexp.runs.status import State

WIDE = 116
"""From this width on, the funnel stands beside the curve instead of below it."""
CHART = 9
"""Lines of the curve."""
STATS = 8
"""Number of statistics shown for an environment without a funnel."""
LABEL = 13
"""Width of the column of names."""
AXIS = 7
"""Width of the curve's axis."""
BAR = 20
"""Width of the small bars."""


class OneRun:
    """Draws one run in the width of the terminal."""

    def __init__(self, run: RunSnapshot):
        self.run = run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        run, width = self.run, options.max_width - 2
        half = (width - 4) // 2 if width >= WIDE else width
        left = Group(_return(run, half), Text(), _vitals(run))
        right = _funnel(run, half)
        if width >= WIDE:
            body: RenderableType = Table.grid(padding=(0, 2))
            body.add_column(width=half)
            body.add_column(width=half)
            body.add_row(left, right)
        else:
            body = Group(_return(run, half), Text(), right, Text(), _vitals(run))
        yield Padding(Group(_heading(run), Text(), *_progress(run, width), Text(), body, *_alarms(run)), (0, 1))


def _heading(run: RunSnapshot) -> RenderableType:
    info = run.info
    about = [run.env, run.arm, None if run.seed is None else f"seed {run.seed}"]
    about += [f"memory {info.memory}", info.hardware] if info else []
    table = Table.grid(expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    table.add_row(Text(run.run, "bold"), draw.state(run.state))
    table.add_row(Text("  ".join(str(part) for part in about if part), "dim"), "")
    if run.reason and run.state not in (State.COMPLETED, State.FAILED, State.INTERRUPTED):
        return Group(table, Text(run.reason, "dim", no_wrap=True, overflow="ellipsis"))
    return table


def _progress(run: RunSnapshot, width: int) -> list[RenderableType]:
    behind = f" {percent(run.share)}".rjust(7)
    total = f" of {count_name(run.total_timesteps)}" if run.total_timesteps else ""
    facts = [f"{run.agent_steps:,}{total} agent steps", f"{run.sps:,.0f} steps/s" if run.sps else None]
    facts.append(f"{duration(run.elapsed_s)} so far" if run.elapsed_s is not None else None)
    facts.append(f"{duration(run.eta_s)} left" if run.eta_s is not None else None)
    line = "   ".join(fact for fact in facts if fact)
    return [draw.bar(run.share, width - len(behind), BLUE) + Text(behind), Text(line)]


def _return(run: RunSnapshot, width: int) -> RenderableType:
    info = run.info
    levels = {"random": info.random_return, "ceiling": info.ceiling_return} if info else {}
    known = {name: level for name, level in levels.items() if level is not None}
    heading = Text.assemble(("return".ljust(LABEL), "bold"), (number(run.episode_return), "bold"))
    if run.eval_return is not None:
        heading.append(f"   held out {number(run.eval_return)}")
    standing = Text(" " * LABEL + _standing(run.episode_return, known), "dim")
    curve = run.smoothed(width - AXIS - 10)
    if not curve:
        return Group(heading, standing, Text(" " * LABEL + "no episode has ended yet", "dim"))
    within = draw.span(curve, list(known.values()))
    lines = draw.chart(curve, within, CHART, known)
    labels = {0: number(within[1]), CHART - 1: number(within[0])}
    rows = [Text.assemble((labels.get(y, "").rjust(AXIS - 1) + " ", "dim"), line) for y, line in enumerate(lines)]
    foot = f"{short_count(run.agent_steps)} agent steps"
    return Group(heading, standing, *rows, Text(" " * AXIS + "0" + foot.rjust(width - AXIS - 11), "dim"))


def _standing(value: float | None, levels: dict[str, float]) -> str:
    """Where a return lies between the random policy's and the ceiling."""
    named = [f"{name} {number(levels.get(name))}" for name in ("random", "ceiling")]
    if value is None or len(levels) < 2 or levels["ceiling"] <= levels["random"]:
        return "   ".join(named)
    way = (value - levels["random"]) / (levels["ceiling"] - levels["random"])
    return f"{100 * way:.0f} % from {' to '.join(named)}"


def _funnel(run: RunSnapshot, width: int) -> RenderableType:
    """The milestones and the random policy's shares; without milestones the environment's statistics."""
    random = (run.info.random_funnel if run.info else None) or {}
    names = list(run.funnel or random)
    if not names:
        return _stats(run)
    longest = max(len(name) for name in names)
    bar = max(10, min(40, width - longest - 20))
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(width=bar)
    table.add_column(justify="right")
    table.add_column(justify="right", style="dim")
    table.add_row(Text("funnel", "bold"), Text("share of agents", "dim"), "now", "random")
    for name in names:
        share, chance = run.funnel.get(name), random.get(name)
        drawn = draw.block_bar(share or 0.0, bar, chance)
        table.add_row(Text(name), drawn, percent(share), percent(chance))
    return table


def _stats(run: RunSnapshot) -> RenderableType:
    if not run.stats:
        return Text.assemble(("funnel".ljust(LABEL), "bold"), (DASH, "dim"))
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_row(Text("episode", "bold"), Text("now", "dim"))
    for name, value in list(run.stats.items())[:STATS]:
        table.add_row(Text(name), number(value))
    return table


def _vitals(run: RunSnapshot) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=LABEL - 2, style="bold")
    table.add_column()
    table.add_row("entropy", _bar(run.entropy_share, "of ln(actions)"))
    table.add_row("consistency", _consistency(run))
    table.add_row("GPU", _gpu(run))
    table.add_row("time", draw.split_bar(run.time_split, BAR) if run.time_split else DASH)
    table.add_row("checkpoint", _checkpoint(run))
    return table


def _consistency(run: RunSnapshot) -> Text:
    if run.max_gap is None:
        return Text(DASH)
    verdict = ("✓ within", "default") if run.consistent else ("✗ beyond", RED)
    return Text.assemble(f"largest gap {run.max_gap:.1e}  ", verdict, f" {run.gap_limit:.0e}")


def _bar(share: float | None, what: str) -> Text:
    if share is None or not math.isfinite(share):
        return Text(DASH)
    return draw.bar(share, BAR, BLUE) + Text(f"  {percent(share)} {what}")


def _gpu(run: RunSnapshot) -> Text:
    use, memory = run.gpu_utilization, run.gpu_memory_gb
    text = Text(DASH) if use is None and memory is None else _bar(None if use is None else use / 100, "used")
    return text.append("" if memory is None else f"   {memory:.1f} GB")


def _checkpoint(run: RunSnapshot) -> Text:
    age, failed = run.checkpoint_age_minutes, run.checkpoint_failed
    text = Text(DASH if age is None else f"{duration(age * 60)} old")
    return text.append(f"   ✗ {failed:.0f} failed since", RED) if failed else text


def _alarms(run: RunSnapshot) -> list[RenderableType]:
    lines = [Text(f"! {alarm}", ORANGE) for alarm in run.alarms]
    return [Text(), *lines] if lines else []
