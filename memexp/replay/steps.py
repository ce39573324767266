"""Environments without a map: an episode as text, one line for each step."""

from collections.abc import Iterator

import torch

from memexp.envs.base import VecEnv
from memexp.envs.controls import FORWARD, LEFT, RIGHT, ChainRecallEnv, DelayedCueEnv, TMazeEnv
from memexp.envs.puffer.spaces import text_of
from memexp.replay.policies import Actor
from memexp.spaces import CategoriesSpace, ObservationSpace, StructSpace, TextSpace, VectorSpace, read_part

TMAZE_CELLS = ("cue left", "cue right", "start", "corridor", "junction")
TMAZE_ACTIONS = {FORWARD: "forward", LEFT: "left", RIGHT: "right"}


def episode_lines(env: VecEnv, actor: Actor, max_steps: int | None = None) -> Iterator[str]:
    """Play the first episode of one environment: lines of step, observation, action and reward; finally the return.

    With several agents the lines show the first one, until it is done.
    """
    obs, resets = env.reset(), torch.ones(env.num_agents, dtype=torch.bool)
    total, step, over = 0.0, 0, False
    yield f"{'step':>5}  {'observation':<24}{'action':<12}reward"
    while not over and step != max_steps:
        seen = _obs_text(env, obs[0])
        actions, predictions = actor(obs, resets)
        obs, reward, terminated, truncated = env.step(actions)
        resets = terminated | truncated
        step, total, over = step + 1, total + float(reward[0]), bool(resets[0])
        action = _action_text(env, actions[0])
        value = "" if predictions is None else f"   value {predictions.values[0]:.3f}"
        yield f"{step:>5}  {seen:<24}{action:<12}{float(reward[0]):6.3f}{value}"
    yield f"return {total:.3f} after {step} steps{'' if over else ', not over yet'}"


def _obs_text(env: VecEnv, obs: torch.Tensor) -> str:
    """An observation in words. Of a third-party environment: its numbers, if there are at most eight."""
    if isinstance(env, ChainRecallEnv):
        return f"symbol {int(obs.argmax())}"
    if isinstance(env, DelayedCueEnv):
        symbol, cue = obs[:-1].reshape(2, -1)
        shown = [f"{name} {int(one.argmax())}" for name, one in (("symbol", symbol), ("cue", cue)) if one.any()]
        return ", ".join(shown) or "which cue?"
    if isinstance(env, TMazeEnv):
        return ", ".join(name for name, lit in zip(TMAZE_CELLS, obs.tolist(), strict=True) if lit)
    if isinstance(env.observation, StructSpace):
        parts = [(part, read_part(obs, part)) for part in env.observation.parts]
        return ", ".join(f"{part.name} {_part_text(part.space, shown)}" for part, shown in parts) + " "
    return _part_text(env.observation, obs) + " "


def _part_text(space: ObservationSpace, shown: torch.Tensor) -> str:
    """A text as it is, up to eight numbers as they are, else how many there are."""
    if isinstance(space, TextSpace):
        return repr(text_of(shown.cpu().numpy()))
    few = isinstance(space, VectorSpace | CategoriesSpace) and shown.numel() <= 8
    return " ".join(f"{number:.3g}" for number in shown.tolist()) if few else f"{shown.numel()} numbers"


def _action_text(env: VecEnv, action: torch.Tensor) -> str:
    if isinstance(env, ChainRecallEnv | DelayedCueEnv):
        return f"symbol {int(action)}"
    if isinstance(env, TMazeEnv):
        return TMAZE_ACTIONS[int(action)]
    return " ".join(f"{number:.3g}" for number in action.reshape(-1).tolist())
