"""Tasks of cvc_random_maps: a task id and the knobs give map size, objects, protocols, rewards and initial inventory.

The draws are those of MettaGrid, in the same order and from the same generator, so with the default knobs a task id
means the same task in both. This module is pure Python.
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
"""The four resources that make a heart."""
Value = TypeVar("Value")


@dataclass(frozen=True)
class Task:
    """One task. Tuples of four follow the order of CARGO."""

    width: int  # cells inside the walls
    height: int  # cells inside the walls
    counts: tuple[int, ...]  # of each kind of object, in the order of config.CVC_OBJECTS
    max_uses: tuple[int, ...]  # of each resource's extractors; 0: no limit
    protocols: str  # which vibes an assembler needs: hard, medium, easy or all
    max_steps: int
    deposit_reward: float
    heart_reward: float | None = None  # for holding a heart; None: not among the rewarded statistics
    resource_rewards: tuple[float, ...] | None = None  # for each unit gained; None: not among the rewarded statistics
    resource_caps: tuple[float, ...] | None = None  # largest reward from each resource
    initial: tuple[int, ...] | None = None  # amounts of CARGO, then hearts, at the start; None: only energy

    @property
    def given(self) -> tuple[int, ...]:
        """`initial`, or zeros if it is None."""
        return self.initial or (0,) * (len(CARGO) + 1)


def sample_task(task_id: int, knobs: CvcRandomMaps) -> Task:
    """The task with this id under these knobs."""
    rng = Random(task_id)

    def span(low_high: Sequence[int]) -> int:
        rng.choice([low_high])  # MettaGrid chooses one of one span, which takes a draw
        return rng.randint(*low_high)

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
