"""Makes what runs name, for `memexp launch --dry-run`: environments are stepped, stacks get one batch.

python -m memexp.ppo.build: reads configs as a JSON list from stdin; prints one JSON line for each:
{"error": why it cannot be trained or null, "modules": the modules of its environment}.
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

from memexp.config import EnvError, UsageError, exit_text
from memexp.cortex.config import CortexConfig
from memexp.ppo.config import TrainConfig

SMALL = {"num_envs": 2, "horizon": 4, "num_minibatches": 1, "update_epochs": 1, "device": "cpu", "graph": False}
"""Settings of the one update."""


def build(config: TrainConfig) -> list[str]:
    """Make environments and policy, and train them for one update; returns the modules of the environment.

    Raises whatever they raise.
    """
    from memexp.ppo.distributed import join
    from memexp.ppo.trainer import Trainer

    env = config.env.model_copy(update={"backend": "serial"} if config.env.name == "any" else {})
    trainer = config.trainer.model_copy(update={**SMALL, "total_timesteps": 1 << 30})
    with closing(Trainer(config.model_copy(update={"trainer": trainer, "env": env}), join("cpu"))) as made:
        made.train_step()
        return list(made.env.modules)


def call_stack(config: TrainConfig) -> list[str]:
    """Make the stack and call it once, without an environment. Raises whatever it raises."""
    import torch

    from memexp.cortex import build_stack

    sizes: dict[str, Any] = {**config.cortex.model_dump(), "compile": False}
    stack, x = build_stack(**sizes), torch.zeros(2, 4, config.cortex.d_hidden)
    stack(x, stack.init_state(2, x.device, x.dtype), torch.zeros(2, 4, dtype=torch.bool))
    return []


def tried(make: Callable[[TrainConfig], list[str]], config: TrainConfig) -> tuple[str, list[str]]:
    """What `make(config)` raises, in words, and what it returns; '' and [] for nothing."""
    try:
        return "", make(config)
    except SystemExit as stop:
        return exit_text(stop), []
    except (UsageError, EnvError) as error:
        return str(error).strip(), []
    except Exception as error:
        return f"{type(error).__name__}: {error}", []


def main() -> None:
    """Environments may print: the answers go to the real standard output, what they print to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for data in json.load(sys.stdin):
        config = TrainConfig.model_validate(data)
        wrong, _ = tried(call_stack, config)
        if wrong:  # a stack of ours tells whether the environment is wrong, too
            config = config.model_copy(update={"cortex": CortexConfig(pattern="L", num_layers=1)})
        error, modules = tried(build, config)
        answer = {"error": "; ".join(filter(None, (error, wrong))) or None, "modules": modules}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
