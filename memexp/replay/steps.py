"""Worlds without a map: an episode as lines, one a step, of what was seen, done and earned."""

from collections.abc import Iterator

import torch

from memexp.envs.base import VecEnv
from memexp.envs.controls import FORWARD, LEFT, RIGHT, ChainRecallEnv
from memexp.replay.players import Player

TMAZE_SEES = ("cue left", "cue right", "start", "corridor", "junction")
TMAZE_DOES = {FORWARD: "forward", LEFT: "left", RIGHT: "right"}


def episode_lines(env: VecEnv, player: Player, max_steps: int | None = None) -> Iterator[str]:
    """Play the first episode of one world and tell it: step, observation, action, reward; at the end the return."""
    recall = isinstance(env, ChainRecallEnv)
    obs, resets, total, step, over = env.reset(), torch.ones(1, dtype=torch.bool), 0.0, 0, False
    yield f"{'step':>5}  {'observation':<24}{'action':<12}reward"
    while not over and step != max_steps:
        seen = _symbol(obs[0]) if recall else _places(obs[0])
        actions, thoughts = player(obs, resets)
        obs, reward, terminated, truncated = env.step(actions)
        resets = terminated | truncated
        step, total, over = step + 1, total + float(reward[0]), bool(resets[0])
        action = int(actions[0])
        done = f"symbol {action}" if recall else TMAZE_DOES[action]
        thought = "" if thoughts is None else f"   value {thoughts.values[0]:.3f}"
        yield f"{step:>5}  {seen:<24}{done:<12}{float(reward[0]):6.3f}{thought}"
    yield f"return {total:.3f} after {step} steps{'' if over else ', not over yet'}"


def _symbol(obs: torch.Tensor) -> str:
    return f"symbol {int(obs.argmax())}"


def _places(obs: torch.Tensor) -> str:
    return ", ".join(name for name, lit in zip(TMAZE_SEES, obs.tolist(), strict=True) if lit)
