"""A run of a name that exists is resumed with the config that it began with."""

import pytest

from memexp.config import UsageError
from memexp.runs import Run, RunInfo
from memexp.runs.identity import refuse_another_experiment

CONFIG = {"seed": 1, "trainer": {"gamma": 0.99, "steps": 10}, "trainer_of": "x", "wandb": {"mode": "auto"}}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"wandb": {"mode": "off"}}, None),
        ({"wandb": {}}, None),
        ({"trainer": {"gamma": 0.99, "steps": 20}}, None),
        ({"trainer": {"gamma": 0.9, "steps": 10}}, "trainer.gamma=0.99, not 0.9"),
        ({"trainer": {"steps": 10}}, "trainer.gamma=0.99, not None"),
        ({"seed": 2}, "seed=1, not 2"),
        ({"wandb_mode": "off"}, "wandb_mode=None, not off"),
    ],
)
def test_only_the_keys_that_may_change_may_differ(change, named):
    run = Run.named("a")
    refuse_another_experiment(run, CONFIG, [])
    run.write_info(RunInfo(run="a", env="e", arm="S", pattern="S", mem_len=0, memory="on", seed=1, total_timesteps=1))
    run.write_config(CONFIG)
    refuse_another_experiment(run, CONFIG, [])
    if named is None:
        refuse_another_experiment(run, CONFIG | change, ["wandb", "trainer.steps"])
    else:
        with pytest.raises(UsageError, match=f"run 'a' exists with {named}: resume it"):
            refuse_another_experiment(run, CONFIG | change, ["wandb", "trainer.steps"])
