"""How a policy reads each part of an observation: as names, pixels or numbers.

`reading` of the config chooses. Else the space decides; for whole numbers in two or three dimensions, the values do
that the random policy sees.
"""

from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from memexp.config import UsageError, did_you_mean
from memexp.envs.config import READINGS, ThirdParty
from memexp.envs.puffer import masks, source
from memexp.envs.puffer.spaces import AsBytes, NotInSpaceError, is_text, leaves

STEPS = 200
"""Observations of the random policy that decide."""
MOST_NAMES = 32
"""Whole numbers from 0 that are all smaller than this are names. MiniGrid's maps have 11, pixels have 256."""


class Reading(NamedTuple):
    """How a part is read ("names", "pixels" or "numbers"; "text"), and why."""

    word: str
    because: str


def choose(config: ThirdParty, space: spaces.Space) -> dict[str, Reading]:
    """The reading of each part of `space`, by its path; an observation without parts is called "observation".

    May play STEPS steps in an environment of its own, always with the same seeds. Raises UsageError for an unknown part
    in `config.reading`, and for a reading that a part does not allow.
    """
    everything = {path or "observation": leaf for path, leaf in leaves(space)}
    hidden = masks.MASK if masks.is_masked(config, space) else None
    parts = {path: leaf for path, leaf in everything.items() if path != hidden}
    given = config.reading or {}
    for part, word in given.items():
        if part not in parts:
            raise UsageError(f"{config.id}: reading: the observation has no part '{part}'{did_you_mean(part, parts)}")
        if word not in (possible := _possible(parts[part])):
            raise UsageError(f"{config.id}: reading: '{part}' is {_kind(parts[part])}, which cannot be read as {word}, "
                             f"only as {' or '.join(possible)}")  # fmt: skip
    found = {part: _by_space(leaf) for part, leaf in parts.items()}
    found |= {part: Reading(word, "as env.reading says") for part, word in given.items()}
    undecided = {part for part, reading in found.items() if reading is None}
    seen = _seen(config, space, list(everything), undecided) if undecided else {}
    return {part: reading or _by_values(seen[part], parts[part]) for part, reading in found.items()}


def _kind(leaf: spaces.Space) -> str:
    return f"Box of {leaf.dtype}" if isinstance(leaf, spaces.Box) else type(leaf).__name__


def _is_whole(leaf: spaces.Space) -> bool:
    return leaf.dtype is not None and leaf.dtype.kind in "iu"


def _possible(leaf: spaces.Space) -> tuple[str, ...]:
    """The readings that a part allows."""
    if is_text(leaf):
        return ("text",)
    if not isinstance(leaf, spaces.Box):
        return ("numbers",) if isinstance(leaf, spaces.MultiBinary) else ("names", "numbers")
    dimensions = len(leaf.shape)
    fits = {"names": _is_whole(leaf) and 1 <= dimensions <= 3, "pixels": 2 <= dimensions <= 3, "numbers": True}
    return tuple(word for word in READINGS if fits[word])


def _by_space(leaf: spaces.Space) -> Reading | None:
    """The reading of a part as its space alone decides it; None: its values decide."""
    possible, dimensions = _possible(leaf), len(leaf.shape or ())
    if not isinstance(leaf, spaces.Box):
        return Reading(possible[0], _kind(leaf))
    if "pixels" in possible and _is_whole(leaf) and leaf.high.max() > 1:
        return None
    is_image = dimensions == 3 or ("pixels" in possible and _is_whole(leaf))
    return Reading("pixels" if is_image else "numbers", f"{_kind(leaf)}, dimensions: {dimensions}")


def _by_values(values: set[int], leaf: spaces.Space) -> Reading:
    """Names if there are several values, all small; else numbers for a table that does not hold bytes; else pixels."""
    while_playing = "while the random policy plays"
    if not values:
        return Reading("pixels", f"nothing was seen {while_playing}")
    if len(values) == 1:
        return Reading("pixels", f"always {min(values)} {while_playing}")
    if min(values) >= 0 and max(values) < MOST_NAMES:
        return Reading("names", f"{len(values)} values up to {max(values)} {while_playing}")
    is_table = len(leaf.shape or ()) == 2 and leaf.dtype != np.uint8
    return Reading("numbers" if is_table else "pixels", f"values from {min(values)} to {max(values)} {while_playing}")


def _seen(config: ThirdParty, space: spaces.Space, parts: list[str], wanted: set[str]) -> dict[str, set[int]]:
    """The values of each `wanted` part in STEPS observations. An error of the environment ends the play early."""
    encode = AsBytes(space)
    fields = {part: encode.struct[str(i)] for i, part in enumerate(parts) if part in wanted}
    values: dict[str, set[int]] = {part: set() for part in fields}
    with suppress(Exception, SystemExit), closing(source.make_one(config)) as env:  # training says what is wrong
        for obs in islice(_play(env, masks.is_masked(config, space)), STEPS):
            with suppress(NotInSpaceError):
                encode(obs)
                for part, field in fields.items():
                    values[part] |= set(np.unique(field).tolist())
    return values


def _play(env: Any, masked: bool) -> Iterator[Any]:
    """The observations of the random policy, episode after episode; of all agents, if there are several."""
    if not source.is_parallel(env):
        env.action_space.seed(0)
        for seed in count():
            obs, _ = env.reset(seed=seed)
            over = False
            while not over:
                yield obs
                action = masks.sample(env.action_space, masks.mask_in(obs) if masked else None)
                obs, _, terminated, truncated, _ = env.step(action)
                over = terminated or truncated
    actions = {agent: env.action_space(agent) for agent in env.possible_agents}
    for i, one in enumerate(actions.values()):
        one.seed(i)
    for seed in count():
        shown, _ = env.reset(seed=seed)
        while env.agents:
            yield from shown.values()
            shown, *_ = env.step(
                {
                    agent: masks.sample(actions[agent], masks.mask_in(shown[agent]) if masked else None)
                    for agent in env.agents
                }
            )
