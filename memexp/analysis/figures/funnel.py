"""The funnel: share of agents that reach each milestone on the way to reward, random policy and every arm."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from memexp.analysis.answer import EnvironmentAnswer
from memexp.analysis.figures.style import INK, Picture, Size, grid, label_room, legend, rows_of_text, styled
from memexp.analysis.seeds import Environment
from memexp.formatting import percent

FLOOR = 1e-4
"""The left end of the axis: smaller shares are drawn there."""


def draw(ax: Axes, answer: EnvironmentAnswer) -> None:
    """One row a milestone; share of agents and episodes that reached it, on a logarithmic axis."""
    environment = answer.environment
    milestones = _milestones(environment)
    rows = np.arange(len(milestones))
    random = environment.random_funnel
    if random:
        shares = [max(random.get(name, np.nan), FLOOR) for name in milestones]
        ax.plot(shares, rows, color=INK, marker="s", ms=5, lw=1, alpha=0.55, label="random policy", clip_on=False)
    for arm, color, dash in styled(environment):
        funnel = arm.funnel
        if funnel:
            shares = [max(funnel.get(name, np.nan), FLOOR) for name in milestones]
            face = "none" if dash == "--" else color
            ax.plot(
                shares, rows, color=color, ls=dash, marker="o", mfc=face, ms=5.5, lw=1.3, label=arm.name, clip_on=False
            )
    ax.set_xscale("log")
    ax.set_xlim(FLOOR, 1)
    ax.set_xticks([1e-4, 1e-3, 1e-2, 1e-1, 1])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: "0" if x <= FLOOR else percent(x)))
    rows_of_text(ax, [name.replace("_", " ") for name in milestones])
    ax.set_xlabel("agents that reach it in an episode (logarithmic)")
    legend(ax)
    grid(ax, "x")


def _milestones(environment: Environment) -> list[str]:
    names = [name for seed in environment.seeds for name in (*(seed.info.random_funnel or {}), *seed.funnel)]
    return list(dict.fromkeys(names))


def _alt(answer: EnvironmentAnswer) -> str:
    environment = answer.environment
    lines = [("random policy", environment.random_funnel)]
    lines += [(arm.name, arm.funnel) for arm in environment.arms.values()]
    texts = [
        f"{who}: {', '.join(f'{m} {share:.2%}' for m, share in funnel.items())}" for who, funnel in lines if funnel
    ]
    return f"Milestones on the way to reward in {environment.name}. {'; '.join(texts)}."


def _size(environment: Environment) -> Size:
    names = label_room(_milestones(environment)) - 0.1
    room = label_room(["random policy", *environment.arms]) + 0.2
    rows = max(len(_milestones(environment)), len(environment.arms) + 1)
    return Size(width=5.6 - names - room, height=0.4 + 0.25 * rows, left=names, right=room)


FUNNEL = Picture(
    "funnel",
    "The way to reward",
    "Share of agents that reach each milestone in an episode: arms over the last tenth of the steps, and the random "
    "policy. Exploration ends where the shares fall.",
    draw,
    _alt,
    _size,
    lambda answer: bool(_milestones(answer.environment)),
)
