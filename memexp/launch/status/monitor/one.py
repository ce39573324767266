"""The dashboard of one run: how far it is, what it earns, how far down the funnel it comes, and whether all is well."""

import math

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from memexp.config import count_name
from memexp.launch.status.monitor import draw
from memexp.launch.status.monitor.draw import BLUE, DASH, ORANGE, RED
from memexp.launch.status.monitor.look import Look

WIDE = 116
"""Characters from which the funnel stands beside the curve instead of below it."""
CHART = 9
"""Lines of the curve."""
STATS = 8
"""Most statistics that are shown of an environment without a funnel."""
LABEL = 13
"""Width of the column of names."""
AXIS = 7
"""Width of the curve's axis."""
BAR = 20
"""Width of the small bars."""


class OneRun:
    """Draws a look at a run in whatever width there is."""

    def __init__(self, look: Look):
        self.look = look

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        look, width = self.look, options.max_width - 2
        half = (width - 4) // 2 if width >= WIDE else width
        left = Group(_return(look, half), Text(), _vitals(look))
        right = _funnel(look, half)
        if width >= WIDE:
            body: RenderableType = Table.grid(padding=(0, 2))
            body.add_column(width=half)
            body.add_column(width=half)
            body.add_row(left, right)
        else:
            body = Group(_return(look, half), Text(), right, Text(), _vitals(look))
        yield Padding(Group(_heading(look), Text(), *_progress(look, width), Text(), body, *_alarms(look)), (0, 1))


def _heading(look: Look) -> RenderableType:
    info = look.info
    about = [look.env, look.arm, None if look.seed is None else f"seed {look.seed}"]
    about += [f"memory {info.memory}", info.hardware] if info else []
    table = Table.grid(expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    table.add_row(Text(look.run, "bold"), draw.state(look.state))
    table.add_row(Text("  ".join(str(part) for part in about if part), "dim"), "")
    if look.reason and look.state not in ("completed", "failed", "interrupted"):
        return Group(table, Text(look.reason, "dim", no_wrap=True, overflow="ellipsis"))
    return table


def _progress(look: Look, width: int) -> list[RenderableType]:
    behind = f" {draw.percent(look.share)}".rjust(7)
    total = f" of {count_name(look.total_timesteps)}" if look.total_timesteps else ""
    facts = [f"{look.agent_steps:,}{total} agent steps", f"{look.sps:,.0f} steps/s" if look.sps else None]
    facts.append(f"{draw.time_left(look.elapsed_s)} so far" if look.elapsed_s is not None else None)
    facts.append(f"{draw.time_left(look.eta_s)} left" if look.eta_s is not None else None)
    line = "   ".join(fact for fact in facts if fact)
    return [draw.bar(look.share, width - len(behind), BLUE) + Text(behind), Text(line)]


def _return(look: Look, width: int) -> RenderableType:
    info = look.info
    levels = {"random": info.random_return, "ceiling": info.ceiling_return} if info else {}
    known = {name: level for name, level in levels.items() if level is not None}
    heading = Text.assemble(("return".ljust(LABEL), "bold"), (draw.number(look.episode_return), "bold"))
    if look.eval_return is not None:
        heading.append(f"   held out {draw.number(look.eval_return)}")
    standing = Text(" " * LABEL + _standing(look.episode_return, known), "dim")
    course = look.course(width - AXIS - 10)
    if not course:
        return Group(heading, standing, Text(" " * LABEL + "no episode has ended yet", "dim"))
    within = draw.span(course, list(known.values()))
    lines = draw.chart(course, within, CHART, known)
    labels = {0: draw.number(within[1]), CHART - 1: draw.number(within[0])}
    rows = [Text.assemble((labels.get(y, "").rjust(AXIS - 1) + " ", "dim"), line) for y, line in enumerate(lines)]
    foot = f"{draw.steps(look.agent_steps)} agent steps"
    return Group(heading, standing, *rows, Text(" " * AXIS + "0" + foot.rjust(width - AXIS - 11), "dim"))


def _standing(value: float | None, levels: dict[str, float]) -> str:
    """Where a return stands between the random policy's and the ceiling."""
    named = [f"{name} {draw.number(levels.get(name))}" for name in ("random", "ceiling")]
    if value is None or len(levels) < 2 or levels["ceiling"] <= levels["random"]:
        return "   ".join(named)
    way = (value - levels["random"]) / (levels["ceiling"] - levels["random"])
    return f"{100 * way:.0f} % from {' to '.join(named)}"


def _funnel(look: Look, width: int) -> RenderableType:
    """Milestones with the random policy's share beside them; without milestones what the environment counts."""
    random = (look.info.random_funnel if look.info else None) or {}
    names = list(look.funnel or random)
    if not names:
        return _stats(look)
    longest = max(len(name) for name in names)
    bar = max(10, min(40, width - longest - 20))
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(width=bar)
    table.add_column(justify="right")
    table.add_column(justify="right", style="dim")
    table.add_row(Text("funnel", "bold"), Text("share of agents", "dim"), "now", "random")
    for name in names:
        share, chance = look.funnel.get(name), random.get(name)
        drawn = draw.block_bar(share or 0.0, bar, chance)
        table.add_row(Text(name), drawn, draw.percent(share), draw.percent(chance))
    return table


def _stats(look: Look) -> RenderableType:
    if not look.stats:
        return Text.assemble(("funnel".ljust(LABEL), "bold"), (DASH, "dim"))
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_row(Text("episode", "bold"), Text("now", "dim"))
    for name, value in list(look.stats.items())[:STATS]:
        table.add_row(Text(name), draw.number(value))
    return table


def _vitals(look: Look) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=LABEL - 2, style="bold")
    table.add_column()
    table.add_row("entropy", _bar(look.entropy_share, "of ln(actions)"))
    table.add_row("consistency", _consistency(look))
    table.add_row("GPU", _gpu(look))
    table.add_row("time", draw.split_bar(look.time_split, BAR) if look.time_split else DASH)
    table.add_row("checkpoint", _checkpoint(look))
    return table


def _consistency(look: Look) -> Text:
    if look.max_gap is None:
        return Text(DASH)
    verdict = ("✓ within", "default") if look.consistent else ("✗ beyond", RED)
    return Text.assemble(f"largest gap {look.max_gap:.1e}  ", verdict, f" {look.gap_limit:.0e}")


def _bar(share: float | None, what: str) -> Text:
    if share is None or not math.isfinite(share):
        return Text(DASH)
    return draw.bar(share, BAR, BLUE) + Text(f"  {draw.percent(share)} {what}")


def _gpu(look: Look) -> Text:
    use, memory = look.gpu_utilization, look.gpu_memory_gb
    text = Text(DASH) if use is None and memory is None else _bar(None if use is None else use / 100, "used")
    return text.append("" if memory is None else f"   {memory:.1f} GB")


def _checkpoint(look: Look) -> Text:
    age, failed = look.checkpoint_age_minutes, look.checkpoint_failed
    text = Text(DASH if age is None else f"{draw.time_left(age * 60)} old")
    return text.append(f"   ✗ {failed:.0f} failed since", RED) if failed else text


def _alarms(look: Look) -> list[RenderableType]:
    lines = [Text(f"! {alarm}", ORANGE) for alarm in look.alarms]
    return [Text(), *lines] if lines else []
