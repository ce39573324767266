"""cvc_random_maps: agents gather four resources, make hearts at assemblers with the right vibes, and deposit them.

The game equals MettaGrid's bit by bit. The engine is in grid/, the tasks are in cvc_tasks.py.
"""

import numpy as np

from memexp.envs.config import CVC_OBJECTS, CvcRandomMaps
from memexp.envs.cvc_tasks import CARGO, RESOURCES, Task, sample_task
from memexp.envs.grid import columns as col
from memexp.envs.grid.cpu_envs import Finished, Prepared
from memexp.envs.grid.state import Sizes
from memexp.envs.grid.stats import stat_number
from memexp.envs.grid.tables import Chest, Game, Protocol, Station, build
from memexp.envs.grid.vec_env import GridEnv

VIBES = (
    "default", "charger", "carbon_a", "carbon_b", "oxygen_a", "oxygen_b", "germanium_a", "germanium_b",
    "silicon_a", "silicon_b", "heart_a", "heart_b", "gear",
)  # fmt: skip
"""The vibes with a meaning, by number."""
PROTOCOL_VIBES = {
    "hard": ("heart_a",),
    "medium": ("heart_a", "heart_b"),
    "easy": ("default", "heart_a", "heart_b"),
    "all": ("default", "heart_a", "heart_b", *(f"{resource}_{side}" for resource in CARGO for side in "ab")),
}
"""Vibes that make one heart. For n hearts each vibe must be shown n times around the assembler.

Of a list longer than eight the engine uses the last eight only (RULES 1.6).
"""
FUNNEL = (
    "moved", *CARGO, "all_four", "heart_affordable", "heart_a_at_assembler", "heart_made", "heart_b_at_chest",
    "heart_deposited",
)  # fmt: skip
"""Milestones: left the start cell; gained each resource; held some of all four, then enough for a heart; showed vibe
heart_a beside an assembler; received a heart; showed heart_b beside a chest; deposited a heart."""

SUMMED = {False: ("silicon", "germanium", "oxygen", "carbon"), True: ("silicon", "oxygen", "germanium", "carbon")}
"""Whether hearts are rewarded too -> order in which the rewards of resources are summed. MettaGrid iterates over a hash
table, whose order depends on its other entries."""

_NUMBER = {name: number for number, name in enumerate(RESOURCES)}
_ENERGY, _HEART = _NUMBER["energy"], _NUMBER["heart"]
_CARGO = [_NUMBER[name] for name in CARGO]
_VIBE = {name: number for number, name in enumerate(VIBES)}
TAGS = {name: tag for tag, name in enumerate(sorted(("agent", "wall", *CVC_OBJECTS)))}
"""Tag number of each kind of object."""
_TYPE = {name: number for number, name in enumerate(CVC_OBJECTS)}
FULL_ENERGY = 100
MOVE_COST = 2
_COOLDOWN, _CHARGER_COOLDOWN = 5, 10
_LIMITS = [([_HEART], 1), ([_ENERGY], FULL_ENERGY), (_CARGO, 255), (list(range(6, 10)), 5)]
_GEAR = {"carbon": "decoder", "oxygen": "modulator", "germanium": "scrambler", "silicon": "resonator"}
MOST_HEARTS = 4
"""Most hearts made by one use of an assembler."""
_CHEST_AMOUNTS = {"carbon": 10, "oxygen": 10, "germanium": 1, "silicon": 25}


def heart_cost(hearts: int) -> tuple[int, int, int, int]:
    """Resources that this many hearts need if they are made at once, in the order of CARGO."""
    carbon = 5 + 5 * hearts
    return carbon, carbon, max(1, carbon // 5), 3 * carbon


def _assembler_protocols(variant: str) -> list[Protocol]:
    """The protocols for one to four hearts, then those for gear (which has no use in this game)."""
    base = [_VIBE[name] for name in PROTOCOL_VIBES[variant]]
    protocols = []
    for hearts in range(1, MOST_HEARTS + 1):
        amounts = [*zip(_CARGO, heart_cost(hearts), strict=True)][::-1]
        protocols.append(Protocol(amounts, [(_HEART, hearts)], vibes=sorted(base * hearts)))
    for resource, gear in _GEAR.items():
        vibes = sorted((_VIBE["gear"], _VIBE[f"{resource}_a"]))
        protocols.append(Protocol([(_NUMBER[resource], 1)], [(_NUMBER[gear], 1)], vibes=vibes))
    return protocols


_ASSEMBLERS = {variant: _assembler_protocols(variant) for variant in PROTOCOL_VIBES}


def _extractor_protocols(resource: str) -> list[Protocol]:
    """Germanium extractors yield more with more agents around; the others have one protocol."""
    number = _NUMBER[resource]
    if resource == "germanium":
        return [
            Protocol([], [(number, amount)], _COOLDOWN, (), least)
            for amount, least in zip((5, 4, 3, 2), (4, 3, 2, 0), strict=True)
        ]
    amount = {"carbon": 2, "oxygen": 10, "silicon": 15}[resource]
    return [Protocol([(_ENERGY, 20)] if resource == "silicon" else [], [(number, amount)], _COOLDOWN)]


_EXTRACTORS: dict[str, list[Protocol]] = {resource: _extractor_protocols(resource) for resource in CARGO}
_CHARGER = [Protocol([], [(_ENERGY, 50)], _CHARGER_COOLDOWN)]
_TRANSFERS = [(_VIBE["heart_b"], _HEART, 1)]
_TRANSFERS += [(_VIBE[f"{name}_b"], _NUMBER[name], amount) for name, amount in _CHEST_AMOUNTS.items()]
_TRANSFERS += [(_VIBE[f"{name}_a"], _NUMBER[name], -amount) for name, amount in _CHEST_AMOUNTS.items()]


def game_of(task: Task, num_vibes: int) -> Game:
    """The rules of a task for the engine. Object types have the order of CVC_OBJECTS."""
    uses: dict[str, int] = dict(zip(CARGO, task.max_uses, strict=True))

    def kind(name: str, count: int) -> Station | Chest:
        tag, resource = TAGS[name], name.removesuffix("_extractor")
        if name == "chest":
            return Chest(tag, _TRANSFERS, count)
        if name == "assembler":
            return Station(tag, _ASSEMBLERS[task.protocols], count=count)
        if name == "charger":
            return Station(tag, _CHARGER, partial=True, count=count)
        return Station(tag, _EXTRACTORS[resource], uses[resource], partial=resource == "oxygen", count=count)

    rewards = _rewards(task)
    return Game(
        max_steps=task.max_steps,
        types=[kind(name, count) for name, count in zip(CVC_OBJECTS, task.counts, strict=True)],
        agent_tag=TAGS["agent"],
        wall_tag=TAGS["wall"],
        num_vibes=num_vibes,
        rewards=[(stat_number(name, RESOURCES), weight, cap) for name, weight, cap in rewards],
        limits=_LIMITS,
        costs=[(col.MOVE, _ENERGY, MOVE_COST, MOVE_COST)],
        regeneration=[(0, _ENERGY, 1)],
        regen_interval=1,
        shares=[(_VIBE["charger"], _ENERGY, 20)],
        goals=[_NUMBER[name.partition(".")[0]] for name, _, _ in rewards if name.partition(".")[0] in _NUMBER],
        compass=True,
        diversity=[_ENERGY, *_CARGO, _HEART],
        initial=[(_ENERGY, FULL_ENERGY), *zip((*_CARGO, _HEART), task.given, strict=True)],
        milestones=_milestones(task),
        size=(task.height, task.width),
        layout=col.SCATTERED,
    )


def _rewards(task: Task) -> list[tuple[str, float, float]]:
    """(statistic, weight, cap) in the order of summation, which is also the order of the goal tokens."""
    rewards = []
    if task.heart_reward is not None:
        rewards.append(("heart.amount", task.heart_reward, np.inf))
    if task.resource_rewards and task.resource_caps:
        for name in SUMMED[task.heart_reward is not None]:
            i = CARGO.index(name)
            rewards.append((f"{name}.gained", task.resource_rewards[i], task.resource_caps[i]))
    return [*rewards, ("chest.heart.deposited_by_agent", task.deposit_reward, np.inf)]


def _milestones(task: Task) -> list[tuple[int, int, int]]:
    """The milestones of FUNNEL. The initial inventory does not count as gained."""
    *cargo, hearts = task.given
    return [
        (col.LEFT_START, 0, 0),
        *((col.REACHES, col.GAINED + number, amount + 1) for number, amount in zip(_CARGO, cargo, strict=True)),
        (col.HAS_SOME, sum(1 << number for number in _CARGO), 0),
        (col.AFFORDS, _TYPE["assembler"], 0),
        (col.NEAR, _VIBE["heart_a"], _TYPE["assembler"]),
        (col.REACHES, col.GAINED + _HEART, hearts + 1),
        (col.NEAR, _VIBE["heart_b"], _TYPE["chest"]),
        (col.REACHES, col.DEPOSITED_BY + _HEART, 1),
    ]


def sizes_of(knobs: CvcRandomMaps) -> Sizes:
    """Sizes of the engine's arrays that suffice for every task under these knobs."""
    most = {name: max(getattr(knobs, f"num_{name}s")) for name in CVC_OBJECTS}
    protocols = [*_ASSEMBLERS["all"], *_CHARGER, *(p for resource in CARGO for p in _EXTRACTORS[resource])]
    vibes = max(len(p.vibes) for variant in knobs.assembler_protocols for p in _ASSEMBLERS[variant])
    return Sizes(
        height=max(knobs.map_height) + 2 * col.BORDER,
        width=max(knobs.map_width) + 2 * col.BORDER,
        agents=knobs.num_cogs,
        objects=sum(most.values()),
        chests=most["chest"],
        types=len(CVC_OBJECTS),
        protocols=len(protocols),
        vibes=vibes,
        rows=len(_TRANSFERS) + len(FUNNEL) + 16,
        rewards=2 + len(CARGO),
        milestones=len(FUNNEL),
    )


class CvcRandomMapsEnv(GridEnv):
    """`num_cogs` agents in each environment, one row for each agent. See GridEnv."""

    funnel = FUNNEL
    config: CvcRandomMaps

    def sizes(self) -> Sizes:
        return sizes_of(self.config)

    def prepare(self, task_id: int) -> Prepared:
        task = sample_task(task_id, self.config)
        return Prepared(build(game_of(task, self.config.num_vibes)), (task.protocols == "hard", *task.given))

    def statistics(self, ended: Finished) -> dict[str, np.ndarray]:
        """hearts_made, hearts_deposited: by all agents together; <resource>_gained: mean over agents, without the
        initial inventory; move_share: share of actions that moved the agent or used an object; alone: whether one agent
        can solve the task alone (protocols hard)."""
        alone, *cargo, _ = ended.facts.T
        agents = ended.agent_stats.mean(1)
        return {
            "alone": alone,
            "hearts_made": ended.game_stats[:, col.CREATED + _HEART],
            "hearts_deposited": ended.game_stats[:, col.DEPOSITED + _HEART],
            "move_share": agents[:, col.SUCCEEDED + col.MOVE] / ended.world[:, col.STEP],
            **{
                f"{name}_gained": agents[:, col.GAINED + _NUMBER[name]] - start
                for name, start in zip(CARGO, cargo, strict=True)
            },
        }
