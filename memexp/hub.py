"""`memexp export --hub`: a run as a folder for the Hugging Face hub: weights, config, run.json and a model card.

`memexp.load(FOLDER)` reads it again. Nothing is uploaded, and no file holds a credential.
"""

import json
from importlib.metadata import version
from pathlib import Path

import safetensors.torch
import yaml

from memexp.analysis.answer import answer
from memexp.analysis.formatting import joined, title_of
from memexp.analysis.sentences import memory_text
from memexp.analysis.statistics import contrast
from memexp.config import UsageError
from memexp.credentials import mask, mask_data
from memexp.formatting import number
from memexp.loading import HUB_STEPS, HUB_WEIGHTS, LoadedPolicy, LoadedRun
from memexp.pattern import ATTENTION, tokens_in
from memexp.project import file_of, is_installed
from memexp.runs import find_runs
from memexp.runs.directory import write_atomically
from memexp.runs.reading import DamagedError

CARD = """\
# {name}

A recurrent policy for `{env}`. memexp {version} trained it with PPO for
{steps:,} agent steps.

| | |
|---|---|
| mean return | {mean} over {episodes} episodes with held-out tasks (95 % interval {low} to {high}) |
| return of the random policy | {random} |
| memory | {memory} |
| width, layers | {width}, {layers} |
| seed | {seed} |
{verdict}
## Use it

```bash
git clone <repository of memexp> memexp && pip install -c memexp/constraints.txt ./memexp   # {version}
hf download USER/{name} --local-dir {name}
memexp eval {name}
```
{needs}
```python
import memexp

policy = memexp.load("{name}").policy()
state = policy.init_state(1)
action, state, info = policy.act([obs], state, resets=[True]{masks})  # obs as the environment gives it
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
    window = f"mem_len {info.mem_len}, " if tokens_in(info.pattern) & ATTENTION else ""
    text = CARD.format(
        name=run.name,
        env=env,
        version=version("memexp"),
        steps=policy.agent_steps,
        low=_number(low),
        high=_number(high),
        mean=_number(found.estimate),
        episodes=episodes,
        random="not measured" if info.random_return is None else _number(info.random_return),
        memory=f"pattern `{pattern}`, {window}memory {info.memory}",
        needs=needs(run),
        masks=', action_masks=[info["action_mask"]]' if policy.env.masks_in_info else "",
        width=config.cortex.d_hidden,
        layers=config.cortex.num_layers,
        seed=config.seed,
        verdict=verdict(run),
    )
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{text}"


def needs(run: LoadedRun) -> str:
    """Which code of others the environment and the cells come from; '' without any."""
    code = (run.info.environment or {}) | (run.info.cells or {})
    names = [name for name in code if name.partition(".")[0] not in ("memexp", "gymnasium")]
    installed = [name for name in names if (file := file_of(name)) and is_installed(file)]
    own = [f"`{name}`" for name in names if name not in installed]
    parts = [f"the files of {joined(own)}, in the folder where you start memexp"] if own else []
    parts += [f"the packages {joined([f'{name} {code[name]}' for name in installed])}"] if installed else []
    env = getattr(run.config.env, "id", run.config.env.name)
    return f"\n`{env}` and the policy need more than memexp: {'; '.join(parts)}.\n" if parts else ""


def _number(value: float | None) -> str:
    return f"{value:.2g}" if value and abs(value) < 0.1 else number(value)


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
