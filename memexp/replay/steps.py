"""Worlds without a map: an episode as lines, one a step, of what was seen, done and earned."""

from collections.abc import Iterator

import torch

from memexp.envs.base import VecEnv
from memexp.envs.controls import FORWARD, LEFT, RIGHT, ChainRecallEnv, TMazeEnv
from memexp.replay.players import Player
from memexp.spaces import VectorSpace

TMAZE_SEES = ("cue left", "cue right", "start", "corridor", "junction")
TMAZE_DOES = {FORWARD: "forward", LEFT: "left", RIGHT: "right"}


def episode_lines(env: VecEnv, player: Player, max_steps: int | None = None) -> Iterator[str]:
    """Play the first episode of one world and tell it: step, observation, action, reward; at the end the return.

    Of several agents the first is told, until its own end.
    """
    obs, resets = env.reset(), torch.ones(env.num_agents, dtype=torch.bool)
    total, step, over = 0.0, 0, False
    yield f"{'step':>5}  {'observation':<24}{'action':<12}reward"
    while not over and step != max_steps:
        seen = _seen(env, obs[0])
        actions, thoughts = player(obs, resets)
        obs, reward, terminated, truncated = env.step(actions)
        resets = terminated | truncated
        step, total, over = step + 1, total + float(reward[0]), bool(resets[0])
        done = _done(env, actions[0])
        thought = "" if thoughts is None else f"   value {thoughts.values[0]:.3f}"
        yield f"{step:>5}  {seen:<24}{done:<12}{float(reward[0]):6.3f}{thought}"
    yield f"return {total:.3f} after {step} steps{'' if over else ', not over yet'}"


def _seen(env: VecEnv, obs: torch.Tensor) -> str:
    """An observation in the world's own words; of other people's worlds the numbers, where they are few."""
    if isinstance(env, ChainRecallEnv):
        return f"symbol {int(obs.argmax())}"
    if isinstance(env, TMazeEnv):
        return ", ".join(name for name, lit in zip(TMAZE_SEES, obs.tolist(), strict=True) if lit)
    if isinstance(env.observation, VectorSpace) and env.observation.size <= 8:
        return " ".join(f"{number:.3g}" for number in obs.tolist()) + " "
    return f"{obs.numel()} numbers"


def _done(env: VecEnv, action: torch.Tensor) -> str:
    if isinstance(env, ChainRecallEnv):
        return f"symbol {int(action)}"
    if isinstance(env, TMazeEnv):
        return TMAZE_DOES[int(action)]
    return " ".join(f"{number:.3g}" for number in action.reshape(-1).tolist())
