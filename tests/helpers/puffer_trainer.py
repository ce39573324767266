"""PufferLib's own trainer on one of our worlds, as a program: WORLD, BACKEND (native or Multiprocessing), FOLDER.

A program of its own, because the trainer draws on the terminal and starts threads. Prints a line of JSON: mean returns
of the episodes that ended in the first update and in the last two.
"""

import json
import sys
from functools import partial
from statistics import mean

if __name__ == "__main__":  # workers import this file anew where processes are spawned
    import pufferlib.vector
    import torch
    from pufferlib.models import Default

    from memexp.envs import make_puffer
    from memexp.envs.export import pufferl

    world, backend, folder = sys.argv[1:]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if backend == "native":
        vecenv = make_puffer(world, 64)
    else:
        workers = {"num_workers": 2, "overwork": True}
        vecenv = pufferlib.vector.make(partial(make_puffer, world, 32), backend=backend, num_envs=2, **workers)
    config = {
        "env": world, "seed": 0, "device": "cpu", "precision": "float32", "torch_deterministic": True,
        "cpu_offload": False, "use_rnn": False, "compile": False, "data_dir": folder, "checkpoint_interval": 10**6,
        "total_timesteps": 64 * 32 * 15, "batch_size": "auto", "bptt_horizon": 32, "minibatch_size": 512,
        "max_minibatch_size": 512, "update_epochs": 2, "optimizer": "adam", "learning_rate": 0.01, "anneal_lr": False,
        "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_eps": 1e-8, "gamma": 0.95, "gae_lambda": 0.9, "clip_coef": 0.2,
        "vf_clip_coef": 0.2, "vf_coef": 0.5, "ent_coef": 0.01, "max_grad_norm": 0.5, "prio_alpha": 0.0,
        "prio_beta0": 1.0, "vtrace_rho_clip": 1.0, "vtrace_c_clip": 1.0,
    }  # fmt: skip
    trainer = pufferl.load().PuffeRL(config, vecenv, Default(vecenv, hidden_size=32))
    returns: list[list[float]] = []
    while trainer.global_step < config["total_timesteps"]:
        returns.append(list(trainer.evaluate()["episode_return"]))
        trainer.stats.clear()
        trainer.train()
    trainer.close()
    print(json.dumps({"first": mean(returns[0]), "last": mean(returns[-2] + returns[-1])}))
