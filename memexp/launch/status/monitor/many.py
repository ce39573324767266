"""The dashboard of a matrix: a line a run, or a line an arm where the runs do not fit, by environment and arm."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.text import Text

from memexp.launch.status.monitor import draw
from memexp.launch.status.monitor.draw import BLUE, MARKS, ORANGE
from memexp.launch.status.monitor.lines import Columns, Line, grouped, lines_of, mean, mean_course, share_done, totals
from memexp.launch.status.monitor.look import Look, State


class ManyRuns:
    """Draws looks at many runs in whatever width there is; `by_arm`: a line an arm instead of a line a run."""

    def __init__(self, name: str, looks: Sequence[Look], by_arm: bool = False):
        self.name, self.looks, self.by_arm = name, looks, by_arm

    @property
    def height(self) -> int:
        """Lines that it takes where none is cut."""
        environments = grouped(self.looks, "env").values()
        alarms = sum(len(look.alarms) for look in self.looks)
        return 2 + sum(3 + len(lines_of(looks, self.by_arm)) for looks in environments) + alarms + bool(alarms)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width - 2
        lines = {env: lines_of(looks, self.by_arm) for env, looks in grouped(self.looks, "env").items()}
        columns = Columns([line for some in lines.values() for line in some], width, self.by_arm)
        tables = [part for env, some in lines.items() for part in _environment(env, some, columns)]
        yield Padding(Group(*_heading(self.name, self.looks, width), *tables, *_alarms(self.looks)), (0, 1))


def counts(looks: Sequence[Look]) -> dict[State, int]:
    """How many runs are in each state that occurs."""
    found = Counter(look.state for look in looks)
    return {state: found[state] for state in MARKS if found[state]}


def _heading(name: str, looks: Sequence[Look], width: int) -> list[RenderableType]:
    line = Text.assemble((name, "bold"), f"   {len(looks)} runs  ")
    for state, count in counts(looks).items():
        mark, style = MARKS[state]
        line.append(f"   {mark} {count} {state}", style)
    sums = totals(looks)
    facts = f" {draw.percent(share_done(sums))}".rjust(7)
    facts += f"   {sums['sps']:,.0f} steps/s" if sums["sps"] else ""
    facts += f"   {draw.time_left(sums['eta_s'])} left" if sums["eta_s"] else ""
    return [line, draw.bar(share_done(sums), max(10, width - len(facts)), BLUE) + Text(facts)]


def _environment(env: str, lines: Sequence[Line], columns: Columns) -> list[RenderableType]:
    """One environment's heading and lines, all courses drawn to one scale that holds the levels."""
    runs = [look for line in lines for look in line.runs]
    levels = {name: mean(getattr(look.info, f"{name}_return", None) for look in runs) for name in ("random", "ceiling")}
    heading = Text.assemble((env, "bold"), *((f"   {name} {draw.number(v)}", "dim") for name, v in levels.items()))
    courses = [mean_course(line.runs, columns.widths["course"]) for line in lines]
    within = draw.span([value for course in courses for value in course], list(levels.values()))
    return [Text(), heading, columns.table(lines, within)]


def _alarms(looks: Sequence[Look]) -> list[RenderableType]:
    lines = [Text.assemble(("! ", ORANGE), look.run, f"  {alarm}") for look in looks for alarm in look.alarms]
    return [Text(), *lines] if lines else []
