"""A program: what batches of other libraries do, as JSON. JAX and EnvPool start threads, which forks do not survive.

python -m helpers.other_batches NAME OPTIONS: checks the batch of this id, and prints what it found.
"""

import json
import sys

import numpy as np
import torch

from memexp import envs
from memexp.envs.base import random_actions


def played(env, steps=120):
    """Everything that random play shows, and the finished episodes."""
    generator = torch.Generator().manual_seed(1)
    shown = [env.reset().clone()]
    done = []
    for _ in range(steps):
        obs, reward, terminated, truncated = env.step(random_actions(env, shown[-1], generator))
        shown.append(obs.clone())
        done.append((reward.clone(), terminated.clone(), truncated.clone()))
    return torch.stack(shown), done, env.pop_episodes()


def main(name, options):
    made = [envs.make(name, 4, seed=seed, options=options) for seed in (3, 3, 4)]
    (shown, done, episodes), (again, *_), (other, *_) = map(played, made)
    env = made[0]
    last = env.final_obs.clone()
    cut = envs.make(name, 4, max_steps=3, options=options)
    obs = cut.reset()
    for _ in range(3):
        *_, truncated = cut.step(random_actions(cut, obs, torch.Generator().manual_seed(2)))
    ends = torch.stack([terminated | out for _, terminated, out in done])
    returns = torch.stack([reward for reward, *_ in done])
    first_end = int(ends[:, 0].nonzero()[0])
    restored = env.load_state_dict(env.state_dict()).clone()
    found = {
        "repeats": torch.equal(shown, again),
        "seeds differ": not torch.equal(shown, other),
        "worlds": len(shown[0].unique(dim=0)),
        "episodes": len(episodes["return"]),
        "return of the first": float(episodes["return"][episodes["world"] == 0][0]),
        "sum of its rewards": float(returns[: first_end + 1, 0].sum()),
        "length of the first": int(episodes["length"][episodes["world"] == 0][0]) - 1 == first_end,
        "truncated": bool(torch.stack([out for *_, out in done]).any()),
        "longest": int(episodes["length"].max()),
        "cut at 3": bool(truncated.all()),
        "finite": bool(np.isfinite(last.float().numpy()).all()),
        "observation": repr(env.observation)[:40],
        "columns": sorted(column for column in episodes if column.startswith("env/")),
        "restored anew": not torch.equal(restored, shown[0]),
        "solved": env.solved_return,
    }
    for one in (*made, cut):
        one.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
