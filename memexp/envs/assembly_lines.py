"""assembly_lines: one agent carries resources along a chain of stations until they become hearts (at most 15).

The game equals MettaGrid's bit by bit. The engine is in grid/, the tasks are in assembly_tasks.py.
"""

import numpy as np

from memexp.envs.assembly_tasks import RESOURCES, ROOMS, SINK_COOLDOWN, TERRAINS, Style, Task, sample_task
from memexp.envs.config import AssemblyLines
from memexp.envs.grid import columns as col
from memexp.envs.grid.cpu_envs import Finished, Prepared
from memexp.envs.grid.state import Sizes
from memexp.envs.grid.stats import stat_number
from memexp.envs.grid.tables import Game, Protocol, Station, build
from memexp.envs.grid.vec_env import GridEnv

HEART_LIMIT = 15
_NUMBER = {name: number for number, name in enumerate(RESOURCES)}
_HEART = _NUMBER["heart"]
_LIMITS = [([number], HEART_LIMIT if number == _HEART else 1) for number in range(len(RESOURCES))]
NEVER = 2**31
"""Amount required by a milestone that the task does not have."""
_REWARDS = [(stat_number("heart.amount", RESOURCES), 1.0, np.inf)]
LINKS = 9
"""Length of the longest chain, which uses every possible resource."""
FUNNEL = ("moved", *(f"link_{link}" for link in range(1, LINKS + 1)), "first_heart", "second_heart")
"""Milestones: left the start cell; gained each resource of the chain; made the first and the second heart."""


def game_of(task: Task, num_vibes: int) -> Game:
    """The rules of a task for the engine. Station i of the task is object i and has type i."""
    tags = {name: tag for tag, name in enumerate(sorted(("agent", "wall", *task.stations)))}
    chain = [_NUMBER[resource] for resource in task.resources]
    protocols = [
        Protocol([(taken, 1)] if taken >= 0 else [], [(made, 1)], task.cooldown)
        for taken, made in zip([-1, *chain], [*chain, _HEART], strict=True)
    ]
    protocols += [Protocol([(resource, 1) for resource in chain], [], SINK_COOLDOWN)] * task.num_sinks
    return Game(
        max_steps=task.max_steps,
        types=[Station(tags[name], [protocol]) for name, protocol in zip(task.stations, protocols, strict=True)],
        agent_tag=tags["agent"],
        wall_tag=tags["wall"],
        num_vibes=num_vibes,
        rewards=_REWARDS,
        limits=_LIMITS,
        milestones=_milestones(chain),
        size=(task.height, task.width),
        terrain=TERRAINS.index(task.terrain),
    )


def _milestones(chain: list[int]) -> list[tuple[int, int, int]]:
    """The milestones of FUNNEL for a chain of resources. A short chain never reaches the links that it lacks."""
    gained = [*chain, *[_HEART] * (LINKS - len(chain))]
    amounts = [1] * len(chain) + [NEVER] * (LINKS - len(chain))
    links = [(col.REACHES, col.GAINED + resource, amount) for resource, amount in zip(gained, amounts, strict=True)]
    return [(col.LEFT_START, 0, 0), *links, *[(col.REACHES, col.GAINED + _HEART, hearts) for hearts in (1, 2)]]


def sizes_of(style: Style) -> Sizes:
    """Sizes of the engine's arrays that suffice for every task of a style."""
    side = max(ROOMS[room][1] for room in style.rooms) + 2 * col.BORDER
    stations = max(style.chain_lengths) + 1 + max(style.num_sinks)
    return Sizes(
        side, side, objects=stations, types=stations, protocols=stations, vibes=0, rows=len(FUNNEL),
        milestones=len(FUNNEL),
    )  # fmt: skip


class AssemblyLinesEnv(GridEnv):
    """One agent in each environment; vibes do nothing. See GridEnv."""

    funnel = FUNNEL
    config: AssemblyLines

    def sizes(self) -> Sizes:
        style = self.config.style
        if style.terrains == TERRAINS[:1]:  # obstacles can make a station unreachable, and then nothing can be earned
            self.ceiling_return = float(HEART_LIMIT)
        return sizes_of(style)

    def prepare(self, task_id: int) -> Prepared:
        task = sample_task(task_id, self.config.style)
        return Prepared(build(game_of(task, self.config.num_vibes)), (len(task.resources), task.num_sinks))

    def statistics(self, ended: Finished) -> dict[str, np.ndarray]:
        """hearts: hearts made; chain_progress: share of the chain's stations used at least once; sink_uses: uses of
        sinks; move_share, use_share: shares of the agent's actions."""
        chain_length, num_sinks = ended.facts.T
        station, uses = np.arange(ended.objects.shape[1]), ended.objects[:, :, col.USES]
        in_chain = station <= chain_length[:, None]
        in_sinks = ~in_chain & (station <= (chain_length + num_sinks)[:, None])
        used = (uses * (in_chain | in_sinks)).sum(1)
        length = ended.world[:, col.STEP]
        return {
            "hearts": ended.game_stats[:, col.CREATED + _HEART],
            "chain_length": chain_length,
            "num_sinks": num_sinks,
            "chain_progress": ((uses > 0) & in_chain).sum(1) / in_chain.sum(1),
            "sink_uses": (uses * in_sinks).sum(1),
            "move_share": (ended.agent_stats[:, 0, col.SUCCEEDED + col.MOVE] - used) / length,
            "use_share": used / length,
            **{f"funnel/link_{link}": _nan_unless(chain_length >= link, ended, link) for link in range(1, LINKS + 1)},
        }


def _nan_unless(exists: np.ndarray, ended: Finished, link: int) -> np.ndarray:
    """Whether the agent reached a link of its chain, `[E]`; NaN if the chain has no such link."""
    return np.where(exists, ended.milestones[:, 0, link] != col.NOT_YET, np.nan)
