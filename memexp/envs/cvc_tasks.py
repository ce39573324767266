"""Tasks of cvc_random_maps: a task id and the knobs -> map size, objects, protocols, rewards, start. Pure Python.

The draws are those of the original (MettaGrid), in its order and from the same generator, so that with the knobs'
defaults a task id means the same task in both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from memexp.envs.config import CVC_OBJECTS, CvcRandomMaps

RESOURCES = (
    "energy", "carbon", "oxygen", "germanium", "silicon", "heart", "decoder", "modulator", "resonator", "scrambler",
)  # fmt: skip
CARGO = ("carbon", "oxygen", "germanium", "silicon")
"""The four resources that a heart is made of."""
Value = TypeVar("Value")


@dataclass(frozen=True)
class Task:
    """One game. What belongs to the four resources of CARGO stands in their order."""

    width: int
    """Cells inside the walls, as is height."""
    height: int
    counts: tuple[int, ...]
    """Number of each kind of object, in the order of config.CVC_OBJECTS."""
    max_uses: tuple[int, ...]
    """How often each resource's extractors can be used; 0: without limit."""
    protocols: str
    """Which vibes an assembler asks for: hard, medium, easy or all."""
    max_steps: int
    deposit_reward: float
    heart_reward: float | None = None
    """Reward for holding a heart; None: it is not among the rewarded statistics."""
    resource_rewards: tuple[float, ...] | None = None
    """Reward for each unit gained; None: as heart_reward."""
    resource_caps: tuple[float, ...] | None = None
    """Most that each resource can pay."""
    initial: tuple[int, ...] | None = None
    """Amounts of CARGO, then hearts, that agents start with; None: nothing but energy."""

    @property
    def given(self) -> tuple[int, ...]:
        """`initial`, or zeros."""
        return self.initial or (0,) * (len(CARGO) + 1)


def sample_task(task_id: int, knobs: CvcRandomMaps) -> Task:
    """The task that `task_id` stands for under these knobs."""
    rng = Random(task_id)

    def span(ends: Sequence[int]) -> int:
        rng.choice([ends])  # the original chooses among one span, which costs a draw
        return rng.randint(*ends)

    def four(values: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(rng.choice(values) for _ in CARGO)

    width, height = span(knobs.map_width), span(knobs.map_height)
    counts = tuple(span(getattr(knobs, f"num_{kind}s")) for kind in CVC_OBJECTS)
    max_uses = four(knobs.extractor_max_uses)
    protocols, max_steps = rng.choice(knobs.assembler_protocols), rng.choice(knobs.max_steps)
    deposit = rng.choice(knobs.deposit_reward)
    heart = rng.choice(knobs.heart_rewards) if knobs.heart_buckets else None
    rewards = four(knobs.resource_rewards) if knobs.resource_buckets else None
    caps = four(knobs.resource_reward_caps) if knobs.resource_buckets else None
    initial = None
    if knobs.initial_inventory_buckets:
        initial = (*four(knobs.initial_resources), rng.choice(knobs.initial_hearts))
    return Task(width, height, counts, max_uses, protocols, max_steps, deposit, heart, rewards, caps, initial)
