"""How far back does a policy look? Its return with its memory cut to the last k steps, for k = 0, 1, 2, 4, ...

Every step starts from a fresh state and reads the last k observations and the present one. So k means what `mem_len`
of an attention layer and `memory_span` of an environment mean: steps before the present one.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing

import numpy as np
import torch
from torch import Tensor

from memexp import envs
from memexp.config import UsageError
from memexp.envs.base import Episodes, VecEnv
from memexp.envs.origin import code_of
from memexp.pattern import ATTENTION, tokens_in
from memexp.policy.model import Policy
from memexp.ppo.checkpoint import load_weights
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import join
from memexp.ppo.evaluate import acting, first_episodes, held_out_noise, held_out_worlds
from memexp.ppo.received import check_received
from memexp.ppo.trainer import autocast
from memexp.runs import Run
from memexp.runs.directory import Horizon
from memexp.runs.identity import refuse_other_code

EPISODES = 200
"""Episodes for each k, unless they cost too much."""
FEWEST = 20
"""With fewer episodes nothing is measured: a mean return would tell nothing."""
LONGEST = 512
"""The largest k."""
COST = 0.05
"""Most that the measurement at the end of a run may cost, as a share of the training's passes through the network."""
UNASKED_PASSES = 20_000_000
"""The same for a finished run, in passes of one agent step: some minutes on a CPU."""


def remembers(config: TrainConfig) -> bool:
    """Whether the policy has a memory that can be cut: no twin, no attention alone with `mem_len` 0."""
    return config.cortex.memory == "on" and _reach(config) != 0


def training_passes(config: TrainConfig) -> float:
    """COST of what a training passes through its network: acting once, and learning three times an epoch."""
    return COST * config.trainer.total_timesteps * (1 + 3 * config.trainer.update_epochs)


def policy_with(config: TrainConfig, env: VecEnv, weights: dict[str, Tensor], device: torch.device) -> Policy:
    """The policy of a run in environments like `env`, not compiled. Raises UsageError if the weights do not fit."""
    cortex = config.cortex.model_copy(update={"compile": False})  # it would take longer than some episodes
    policy = Policy(env.observation, env.actions, cortex, config.policy).to(device)
    try:
        policy.load_state_dict(weights)
    except RuntimeError:
        raise UsageError(
            "the weights of the checkpoint do not fit the environment and architecture of config.yaml"
        ) from None
    return policy


def measure_horizon(
    config: TrainConfig,
    policy: Policy,
    agent_steps: int,
    episodes: int = EPISODES,
    most_passes: float = float("inf"),
    on_step: Callable[[int], None] = lambda k: None,
) -> Horizon | None:
    """Returns for each k over the same held-out tasks and action noise; `on_step` gets each k before it is played.

    The largest k is the first power of two that covers the longest episode or the reach of the policy, LONGEST at most.
    About `most_passes` agent steps go through the network at most: then there are fewer episodes. None if they would be
    fewer than FEWEST, or if an episode does not end.
    """
    device = str(next(policy.parameters()).device)

    def play(episodes: int, k: int | None) -> Episodes:
        return _play(config, policy, episodes, k, device, most_passes)

    try:
        return _measure(config, play, agent_steps, episodes, most_passes, on_step)
    except _TooLongError:
        return None


def _measure(
    config: TrainConfig,
    play: Callable[[int, int | None], Episodes],
    agent_steps: int,
    episodes: int,
    most_passes: float,
    on_step: Callable[[int], None],
) -> Horizon | None:
    pilot = play(min(episodes, FEWEST), None)
    longest = int(pilot["length"].max())
    ks, end = [0], min(longest - 1, _reach(config) or LONGEST, LONGEST)
    while ks[-1] < end:
        ks.append(2 * ks[-1] or 1)
    agents = sum(pilot["length"]) / len(np.unique(pilot["world"]))  # agent steps of an episode
    episodes = int(min(episodes, most_passes / (agents * sum(k + 1 for k in ks))))
    if episodes < min(FEWEST, len(pilot["world"])):
        return None
    whole = play(episodes, None)
    played: dict[int, np.ndarray] = {}
    for k in ks:
        on_step(k)
        played[k] = play(episodes, k)["return"].astype(np.float64)
    return Horizon(
        agent_steps=agent_steps,
        episodes=episodes,
        longest=int(whole["length"].max()),
        whole=float(whole["return"].mean(dtype=np.float64)),
        returns={k: float(values.mean()) for k, values in played.items()},
        stderrs={k: float(v.std(ddof=1) / len(v) ** 0.5) if len(v) > 1 else 0.0 for k, v in played.items()},
    )


def horizon_of(run: Run, episodes: int | None, trust: bool, force: bool, on_step: Callable[[int], None]) -> Horizon:
    """Measure the newest checkpoint of `run` and write its horizon.json. `episodes` None: EPISODES or fewer.

    `force`: although the code of the environment, or of cells, has changed since the training.
    Raises UsageError if the run has no memory, or CheckpointError without a checkpoint.
    """
    config = TrainConfig.parse(run.config, run.name)
    if not remembers(config):
        raise UsageError(f"run '{run.name}' has no memory to cut")
    check_received(run.name, config, trust)
    with closing(envs.build(config.env, 1)) as env:
        refuse_other_code(run, code_of(env.modules, config.cortex.pattern), force)
        steps, weights = load_weights(run.checkpoints)
        policy = policy_with(config, env, weights, join(config.trainer.device).device)
    most = float("inf") if episodes else UNASKED_PASSES
    found = measure_horizon(config, policy, steps, episodes or EPISODES, most, on_step)
    if found is None:
        raise UsageError(f"run '{run.name}': {FEWEST} episodes would take long; ask for them with --episodes {FEWEST}")
    run.write_horizon(found)
    return found


def _reach(config: TrainConfig) -> int | None:
    """Steps back that attention alone can reach over all layers; None for recurrent cells, which have no limit."""
    attends = tokens_in(config.cortex.pattern) <= ATTENTION
    return config.cortex.mem_len * config.cortex.num_layers if attends else None


class _TooLongError(Exception):
    """The first episodes have not ended after as many agent steps as the measurement may take."""


@torch.no_grad()
def _play(
    config: TrainConfig, policy: Policy, episodes: int, k: int | None, device: str, most_passes: float
) -> Episodes:
    """The first episode of each of `episodes` environments, sampled actions; `k` None: with the whole memory."""
    env = held_out_worlds(config.env, episodes, config.seed, device)
    noise = held_out_noise(config.seed, env, 0, env.num_agents)
    acts = acting(policy, env) if k is None else _cut(policy, env.num_agents, k)

    passes = 0

    def choose(obs: Tensor, resets: Tensor) -> Tensor:
        nonlocal passes
        passes += env.num_agents
        if passes > max(most_passes, env.num_agents):
            raise _TooLongError
        return policy.actions.sample(acts(obs, resets), noise.sample())

    cast: AbstractContextManager = autocast(config.trainer.precision, env.device)
    with cast, closing(env):
        return first_episodes(env, choose)


def _cut(policy: Policy, rows: int, k: int) -> Callable[[Tensor, Tensor], Tensor]:
    """`acting`, but from a fresh state and the last k steps. Episodes that began within them clear the state, too."""
    window: list[Tensor] = []  # observations [N, k + 1, ...] and their resets

    def act(obs: Tensor, resets: Tensor) -> Tensor:
        new = [obs[:, None], resets[:, None]]
        if not window:  # what lies before the first step is cleared by its reset
            window[:] = [torch.cat([one] * (k + 1), 1) for one in new]
        window[:] = [torch.cat([old[:, 1:], one], 1) for old, one in zip(window, new, strict=True)]
        logits, _, _ = policy(window[0], policy.init_state(rows, obs.device), window[1])
        return logits[:, -1]

    return act
