"""`memexp export --hub`: a run as a folder for the Hugging Face hub: weights, config, run.json and a model card.

`memexp.load(FOLDER)` reads it again. Nothing is uploaded, and no file holds a credential.
"""

import json
from importlib.metadata import version
from pathlib import Path

import safetensors.torch
import yaml

from memexp.analysis.answer import answer
from memexp.analysis.formatting import title_of
from memexp.analysis.sentences import memory_text
from memexp.analysis.statistics import contrast
from memexp.config import UsageError
from memexp.credentials import mask, mask_data
from memexp.loading import HUB_STEPS, HUB_WEIGHTS, LoadedPolicy, LoadedRun
from memexp.runs import find_runs
from memexp.runs.directory import write_atomically
from memexp.runs.reading import DamagedError

CARD = """\
# {name}

A recurrent policy for `{env}`. memexp {version} trained it with PPO for
{steps:,} agent steps.

| | |
|---|---|
| mean return | {low:.4g} to {high:.4g} (95 % interval), {mean:.4g} over {episodes} episodes with held-out tasks |
| return of the random policy | {random} |
| memory | {memory} |
| width, layers | {width}, {layers} |
| seed | {seed} |
{verdict}
## Use it

```bash
pip install memexp
hf download USER/{name} --local-dir {name}
memexp eval {name}
```

```python
import memexp

policy = memexp.load("{name}").policy()
state = policy.init_state(1)
action, state, info = policy.act([obs], state, resets=[True])  # obs as the environment gives it
```

`config.yaml` has every setting of the training, and `run.json` says what was measured.
"""
VERDICT = """
## Does {env} need memory?

{sentence} (from the runs of `{matrix}`)
"""


def write_hub(run: LoadedRun, policy: LoadedPolicy, folder: Path, episodes: int) -> None:
    """Write the folder, after playing so many episodes. Raises UsageError if there are files in it already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--hub: {folder} exists and is not empty; name another folder")
    weights = {name: one.contiguous() for name, one in policy.module.state_dict().items()}
    files = {
        HUB_WEIGHTS: safetensors.torch.save(weights, {HUB_STEPS: str(policy.agent_steps)}),
        "config.yaml": yaml.safe_dump(mask_data(run.run.config), sort_keys=False).encode(),
        "run.json": json.dumps(mask_data(run.info.model_dump()), indent=2).encode(),
        "README.md": mask(card(run, policy, episodes)).encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_atomically(folder / name, data)


def card(run: LoadedRun, policy: LoadedPolicy, episodes: int) -> str:
    """README.md: what the hub reads, then what a person reads."""
    info, config = run.info, policy.config
    found = contrast((1.0, policy.play(episodes)["return"].astype(float)))
    low, high = found.interval() if episodes > 1 else (found.estimate, found.estimate)
    env = getattr(config.env, "id", config.env.name)
    reward = {"type": "mean_reward", "name": "mean_reward", "value": round(found.estimate, 4), "verified": False}
    result = {
        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
        "dataset": {"type": env, "name": env},
        "metrics": [reward],
    }
    head = {
        "library_name": "memexp",
        "tags": ["reinforcement-learning", "deep-reinforcement-learning", "memory", env],
        "model-index": [{"name": run.name, "results": [result]}],
    }
    pattern = info.pattern if isinstance(info.pattern, str) else " ".join(info.pattern)
    text = CARD.format(
        name=run.name,
        env=env,
        version=version("memexp"),
        steps=policy.agent_steps,
        low=low,
        high=high,
        mean=found.estimate,
        episodes=episodes,
        random="not measured" if info.random_return is None else f"{info.random_return:.4g}",
        memory=f"pattern `{pattern}`, mem_len {info.mem_len}, memory {info.memory}",
        width=config.cortex.d_hidden,
        layers=config.cortex.num_layers,
        seed=config.seed,
        verdict=verdict(run),
    )
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{text}"


def verdict(run: LoadedRun) -> str:
    """What the runs of its matrix that are on this machine say about memory; '' without any."""
    matrix, env = run.info.matrix, run.info.env
    if matrix is None:
        return ""
    try:
        found = answer(find_runs(run.run.path.parent), matrix).environments[env]
    except (UsageError, DamagedError, KeyError):
        return ""
    sentence = f"{title_of(env, found.memory.verdict.kind)}. {memory_text(found.memory)}"
    return VERDICT.format(env=env, sentence=sentence, matrix=matrix)
