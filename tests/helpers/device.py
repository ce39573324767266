"""Compares the grid engine on the device with that on the CPU: python -m helpers.device WHAT ...; last line is JSON.

Run with NUMBA_ENABLE_CUDASIM=1 NUMBA_DISABLE_JIT=1 where there is no GPU. The first difference is an AssertionError.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from helpers.cvc import RICH, SMALL
from helpers.replay import replay

from memexp import envs
from memexp.curriculum.config import CurriculumConfig
from memexp.curriculum.schedule import Planned
from memexp.envs import assembly_lines
from memexp.envs.assembly_tasks import Style, Task, sample_task
from memexp.envs.base import VecEnv, concatenated

BRIEF = SMALL | RICH | {"num_vibes": 16, "max_steps": [9, 14, 30], "assembler_protocols": ["hard", "medium", "easy"]}
"""Episodes of cvc_random_maps that end often."""
KNOBS = {"cvc_random_maps": BRIEF, "assembly_lines": {"curriculum_style": "level_0"}}


def brief_task(task_id: int, style: Style) -> Task:
    """A task of assembly_lines whose episode is over soon."""
    task = sample_task(task_id, style)
    return replace(task, max_steps=task.max_steps // 12)


assembly_lines.sample_task = brief_task


def pair(game: str, worlds: int, **options) -> tuple[VecEnv, VecEnv]:
    """The same worlds on the CPU and on the device."""
    return tuple(envs.make(game, worlds, device, seed=5, **KNOBS[game], **options) for device in ("cpu", "cuda"))


def equal(ours: torch.Tensor, theirs: torch.Tensor, what: str) -> None:
    assert torch.equal(ours.cpu(), theirs.cpu()), what


def step_both(cpu: VecEnv, device: VecEnv, steps: int, seed: int) -> int:
    """Step both by the same random actions and compare everything; returns how many agents' episodes ended."""
    ends, generator = 0, torch.Generator().manual_seed(seed)
    for t in range(steps):
        actions = torch.randint(cpu.num_actions + 1, (cpu.num_agents,), generator=generator)
        ours, theirs = cpu.step(actions), device.step(actions.to(device.device))
        for left, right, what in zip(ours, theirs, ("observations", "rewards", "ends", "truncations"), strict=True):
            equal(left, right, f"step {t}: {what}")
        over = ours[2]
        equal(cpu.final_obs[over], device.final_obs.cpu()[over], f"step {t}: last observations")
        ends += int(over.sum())
    return ends


def same_episodes(cpu: VecEnv, device: VecEnv) -> dict[str, np.ndarray]:
    """The statistics of both, compared."""
    ours, theirs = cpu.pop_episodes(), device.pop_episodes()
    assert ours.keys() == theirs.keys()
    for name, column in ours.items():
        np.testing.assert_array_equal(column, theirs[name], name)
    return ours


def same(game: str) -> dict[str, int]:
    """Reset, random play, desync, random play."""
    cpu, device = pair(game, 3, first_env=2)
    steps = {"assembly_lines": 120, "cvc_random_maps": 60}[game]
    equal(cpu.reset(), device.reset(), "first observations")
    ends = step_both(cpu, device, steps, 1)
    first = same_episodes(cpu, device)
    equal(cpu.desync(), device.desync(), "observations out of phase")
    assert [cpu.task_id(w) for w in range(3)] == [device.task_id(w) for w in range(3)]
    ends += step_both(cpu, device, steps, 2)
    second = same_episodes(cpu, device)
    assert len(np.unique(first["env/tokens"])) > 1
    return {"episodes": ends * 3 // cpu.num_agents, "inside": len(second["return"])}


def moves() -> dict[str, int]:
    """Saved on either, carried on on the other."""
    cpu, device = pair("cvc_random_maps", 3)
    cpu.desync()
    device.desync()
    step_both(cpu, device, 20, 3)
    saved = cpu.state_dict(), device.state_dict()
    others = pair("cvc_random_maps", 3)
    for other in others:
        other.reset()
        other.step(torch.zeros(other.num_agents, dtype=torch.int64, device=other.device))
    for other, state in zip(others, reversed(saved), strict=True):
        equal(other.load_state_dict(state), cpu.load_state_dict(saved[0]), "observations after loading")
    step_both(*others, 40, 4)
    return {"episodes": len(same_episodes(*others)["return"])}


def anew() -> dict[str, int]:
    """Begun anew by worlds that have all just ended an episode, and that stay at the first step of the next."""
    cpu, device = (
        envs.make("cvc_random_maps", 1, where, seed=5, **BRIEF | {"max_steps": 1}) for where in ("cpu", "cuda")
    )
    cpu.reset()
    device.reset()
    step_both(cpu, device, 1, 3)
    equal(cpu.desync(), device.desync(), "observations out of phase")
    step_both(cpu, device, 2, 4)
    return {"episodes": len(same_episodes(cpu, device)["return"])}


def curriculum() -> dict[str, int]:
    """Tasks that are planned while others are played, some of them only when they begin."""
    schedules = [Planned(CurriculumConfig(kind="learning_progress"), 7, 4) for _ in range(2)]
    both = [
        envs.make("cvc_random_maps", 4, device, seed=5, tasks=tasks, **BRIEF)
        for device, tasks in zip(("cpu", "cuda"), schedules, strict=True)
    ]
    equal(both[0].desync(), both[1].desync(), "observations out of phase")
    episodes = []
    for rollout, steps in enumerate((4, 4, 8, 20, 4, 12, 24)):
        step_both(*both, steps, rollout)
        episodes.append(same_episodes(*both))
        for schedule in schedules:
            schedule.advance(episodes[-1], [schedule.note()])
        assert np.array_equal(*(schedule.state_dict()["tasks"] for schedule in schedules))
    unplanned = [schedule.stats()["unplanned"] for schedule in schedules]
    assert unplanned[0] == unplanned[1]
    return {"episodes": len(concatenated(episodes)["task"]), "unplanned": unplanned[0]}


def main() -> None:
    what, *words = sys.argv[1:]
    if what == "replay":
        told = {Path(file).stem: replay(Path(file), device=True) for file in words}
    else:
        told = {"same": same, "moves": moves, "anew": anew, "curriculum": curriculum}[what](*words)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
