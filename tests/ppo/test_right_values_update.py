"""The PPO update against its definition, written out in plain Python, number by number in float64.

Sources: generalised advantage estimation, Schulman et al. 2016 (arXiv:1506.02438, equations 11 and 16); the clipped
objective, Schulman et al. 2017 (arXiv:1707.06347, equations 7 and 9); Adam, Kingma and Ba 2015 (arXiv:1412.6980,
algorithm 1) with decoupled weight decay, Loshchilov and Hutter 2019 (arXiv:1711.05101, algorithm 2). Nothing here
calls the code under test for a value that it expects: gradients are difference quotients of the loss below.
"""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from helpers.training import tiny
from torch import nn

from memexp.policy.actions import Categorical
from memexp.ppo.config import TrainerConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.ppo import GuardedStep, Learner
from memexp.ppo.rollout import Segments
from memexp.ppo.trainer import Trainer

CPU = torch.device("cpu")
ALONE = Ranks(0, 1, CPU)
AGENTS, STEPS, INPUTS, ACTIONS = 6, 4, 2, 3
RATE, LARGE = 0.1, 1e9


# --- the definition ---------------------------------------------------------------------------------------------------


def policy_by_hand(w, agent):
    """Log-probabilities of all actions and the value at each step of one agent's segment.

    The memory h adds up a weighted sum of what was seen since the episode began. w is a flat list of 13 numbers: 2 of
    the memory, 3 x 3 of the logits (two inputs and the memory), 2 of the value (the memory and 1).
    """
    h, outputs = agent["start"], []
    for (x, y), reset in zip(agent["obs"], agent["resets"], strict=True):
        h = 0.0 if reset else h
        h = h + w[0] * x + w[1] * y
        logits = [w[2 + 3 * a] * x + w[3 + 3 * a] * y + w[4 + 3 * a] * h for a in range(ACTIONS)]
        log_sum = math.log(sum(math.exp(logit) for logit in logits))
        outputs.append(([logit - log_sum for logit in logits], w[11] * h + w[12]))
    return outputs


def parts_by_hand(w, agents, config):
    """Sums over all steps of these agents: clipped objective, squared value error, entropy, KL, number of clipped."""
    objective = squares = entropy = kl = clipped = 0.0
    for agent in agents:
        for t, (log_p, value) in enumerate(policy_by_hand(w, agent)):
            action, advantage = agent["actions"][t], agent["advantages"][t]
            ratio = math.exp(log_p[action] - agent["log_probs"][t])
            kept = min(max(ratio, 1 - config.clip), 1 + config.clip)
            objective += min(ratio * advantage, kept * advantage)  # 2017, equation 7
            square = (value - agent["returns"][t]) ** 2
            if config.value_clip is not None:
                old = agent["values"][t]
                near = old + min(max(value - old, -config.value_clip), config.value_clip)
                square = max(square, (near - agent["returns"][t]) ** 2)
            squares += square
            entropy += -sum(math.exp(lp) * lp for lp in log_p)
            kl += (ratio - 1) - math.log(ratio)
            clipped += ratio < 1 - config.clip or ratio > 1 + config.clip
    return objective, squares, entropy, kl, clipped


def loss_by_hand(w, agents, config):
    """What is minimised, a mean over steps: 2017, equation 9 with the sign turned. The value error has a half."""
    objective, squares, entropy, _, _ = parts_by_hand(w, agents, config)
    total = -objective + config.value_coefficient * 0.5 * squares - config.entropy_coefficient * entropy
    return total / (len(agents) * STEPS)


def gradient_by_hand(w, agents, config, h=1e-5):
    """Difference quotients of the loss, of fourth order: accurate to about ten digits."""

    def at(i, shift):
        return loss_by_hand([x + shift * (j == i) for j, x in enumerate(w)], agents, config)

    return [(8 * (at(i, h) - at(i, -h)) - (at(i, 2 * h) - at(i, -2 * h))) / (12 * h) for i in range(len(w))]


def normalised_by_hand(advantages, clip):
    """Minus the mean, over the standard deviation plus 1e-8, of all agents and steps; kept in single precision."""
    numbers = [a for row in advantages for a in row]
    mean = sum(numbers) / len(numbers)
    deviation = math.sqrt(sum((a - mean) ** 2 for a in numbers) / len(numbers))
    limit = LARGE if clip is None else clip
    return [
        [min(max(float(np.float32((a - mean) / (deviation + 1e-8))), -limit), limit) for a in row] for row in advantages
    ]


def advantages_by_hand(rewards, values, dones, last, gamma, lam):
    """2016, equation 16: A_t = sum over l of (gamma lambda)^l delta_{t+l}, until the episode or the segment ends."""
    steps = len(rewards)
    advantages = []
    for t in range(steps):
        total, weight = 0.0, 1.0
        for s in range(t, steps):
            following = last if s == steps - 1 else values[s + 1]
            delta = rewards[s] + (0.0 if dones[s] else gamma * following) - values[s]  # equation 11
            total += weight * delta
            if dones[s]:
                break
            weight *= gamma * lam
        advantages.append(total)
    return advantages


def shrink_by_hand(norm, usual, config):
    """What gradients of this norm are divided by, and the norm's usual size after them. usual: before them, or 0.

    The norm may not exceed max_grad_norm, nor grad_norm_growth times its usual size. That is the root of a running mean
    of squares over 50 steps, of norms after they were clipped, and counts as no less than 1/1000 of max_grad_norm.
    """
    shrink = max(1.0, (norm + 1e-6) / config.max_grad_norm)
    if config.grad_norm_growth is not None:
        usual = max(usual or norm, 1e-3 * config.max_grad_norm)
        shrink = max(shrink, norm / (config.grad_norm_growth * usual))
        usual = math.sqrt(usual**2 + ((norm / shrink) ** 2 - usual**2) / 50)
    return shrink, usual


def update_by_hand(w, agents, plan, config):
    """Plain gradient descent, step size RATE, over the minibatches of `plan` (lists of agents) in this order.

    Returns the weights, and a line a step: mean policy loss, value loss, entropy, KL, clipped share, gradient norm.
    """
    w, lines, usual = list(w), [], 0.0
    for rows in plan:
        batch = [agents[row] for row in rows]
        count = len(batch) * STEPS
        objective, squares, entropy, kl, clipped = parts_by_hand(w, batch, config)
        if config.target_kl and kl / count > config.target_kl:
            break
        gradient = gradient_by_hand(w, batch, config)
        norm = math.sqrt(sum(g * g for g in gradient))
        shrink, usual = shrink_by_hand(norm, usual, config)
        w = [x - RATE * g / shrink for x, g in zip(w, gradient, strict=True)]
        lines.append([-objective / count, 0.5 * squares / count, entropy / count, kl / count, clipped / count, norm])
    return w, lines


# --- the code under test, with a policy that the definition above describes -------------------------------------------


class Summing(nn.Module):
    """The policy of `policy_by_hand`. It writes down which agents each pass over segments saw."""

    actions = Categorical(ACTIONS)

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))
        self.seen = []

    def forward(self, obs, state, resets):
        self.seen.append(state["name"].long().tolist())
        h, memory = state["h"], []
        for t in range(obs.shape[1]):
            h = torch.where(resets[:, t], 0.0, h) + obs[:, t] @ self.w[:2]
            memory.append(h)
        h = torch.stack(memory, 1)
        logits = torch.cat([obs, h[..., None]], -1) @ self.w[2:11].view(ACTIONS, 3).T
        return logits, self.w[11] * h + self.w[12], {"h": h}


class Descent(torch.optim.Optimizer):
    """Plain gradient descent, step size RATE, that divides by `grad_scale` as torch's fused optimisers do."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": RATE})

    @torch.no_grad()
    def step(self):
        assert self.found_inf == 0
        for p in self.param_groups[0]["params"]:
            p -= RATE * p.grad / self.grad_scale


def some_agents(far=0.0):
    """Weights, and AGENTS segments with two episode ends among them, drawn by a fixed seed.

    far: how much the policy that acted differs from the present one: the deviation of log-probabilities and values.
    """
    draw = np.random.default_rng(5)
    w = draw.normal(size=13).tolist()
    agents = []
    for name in range(AGENTS):
        agent = {
            "name": name,
            "start": draw.normal(),
            "obs": draw.normal(size=(STEPS, INPUTS)).tolist(),
            "resets": (draw.random(STEPS) < 0.2).tolist(),
            "actions": draw.integers(ACTIONS, size=STEPS).tolist(),
            "raw": draw.normal(size=STEPS).tolist(),  # advantages before they are normalised
            "returns": draw.normal(size=STEPS).tolist(),
        }
        outputs = policy_by_hand(w, agent)
        chosen = [log_p[a] for (log_p, _), a in zip(outputs, agent["actions"], strict=True)]
        agent["log_probs"] = [log_p + far * draw.normal() for log_p in chosen]
        agent["values"] = [value + far * draw.normal() for _, value in outputs]
        agents.append(agent)
    assert sum(sum(agent["resets"]) for agent in agents) > 1
    return w, agents


def segments_of(agents):
    def column(name, dtype=torch.float64):
        return torch.tensor([agent[name] for agent in agents], dtype=dtype)

    return Segments(
        obs=column("obs"),
        resets=column("resets", torch.bool),
        actions=column("actions", torch.int64),
        log_probs=column("log_probs"),
        values=column("values"),
        rewards=torch.zeros(len(agents), STEPS, dtype=torch.float64),
        dones=torch.zeros(len(agents), STEPS, dtype=torch.bool),
        start={"h": column("start"), "name": column("name")},
    )


def run_update(w, agents, config):
    """Our update of these weights; returns the policy (its weights moved) and the metrics."""
    policy = Summing(w)
    learner = Learner(policy, Descent(policy.parameters()), config, ALONE, nullcontext)
    targets = (torch.tensor([agent[name] for agent in agents], dtype=torch.float64) for name in ("raw", "returns"))
    return policy, learner.update(segments_of(agents), *targets, torch.Generator().manual_seed(0))


def settings(**changes):
    """Hyperparameters that leave out what a test does not ask for."""
    plain = {"num_minibatches": 1, "update_epochs": 1, "max_grad_norm": LARGE, "entropy_coefficient": 0.0}
    return TrainerConfig(**(plain | changes))


# --- statements -------------------------------------------------------------------------------------------------------

SEVERAL = {"num_minibatches": 3, "update_epochs": 2}
SINGLE = {"num_minibatches": 6, "update_epochs": 2}
SWITCHES = {
    "nothing": {},
    "entropy bonus": {"entropy_coefficient": 0.3},
    "no value loss": {"value_coefficient": 0.0},
    "more of the value loss": {"value_coefficient": 1.7},
    "value clip": {"value_clip": 0.2},
    "advantage clip": {"advantage_clip": 0.7},
    "narrow clip": {"clip": 0.05},
    "wide clip": {"clip": 0.9},
    "small gradients": {"max_grad_norm": 0.05},
    "several minibatches": SEVERAL,
    "one agent a minibatch": SINGLE,
    "growth": {"grad_norm_growth": 1.001} | SINGLE,
    "growth from no less than 3": {"grad_norm_growth": 1.001, "max_grad_norm": 3000.0} | SINGLE,
    "divergence allowed": {"target_kl": 1e6} | SEVERAL,
    "divergence stops": {"target_kl": 0.01} | SEVERAL,
    "everything": {
        "entropy_coefficient": 0.2, "value_coefficient": 0.8, "value_clip": 0.3, "advantage_clip": 1.1, "clip": 0.15,
        "grad_norm_growth": 1.05, "max_grad_norm": 0.4, "target_kl": 5.0, **SEVERAL,
    },
}  # fmt: skip
METRICS = ("loss/policy", "loss/value", "policy/entropy", "loss/approx_kl", "loss/clipfrac", "loss/grad_norm")


@pytest.mark.parametrize("far", [0.0, 0.4], ids=["as acted", "moved on"])
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_an_update_is_that_of_its_definition(switches, far):
    config = settings(**switches)
    w, agents = some_agents(far)
    normal = normalised_by_hand([agent["raw"] for agent in agents], config.advantage_clip)
    policy, metrics = run_update(w, agents, config)
    for agent, advantages in zip(agents, normal, strict=True):
        agent["advantages"] = advantages
    expected, lines = update_by_hand(w, agents, policy.seen, config)
    assert policy.w.tolist() == pytest.approx(expected, rel=1e-7, abs=1e-8)
    for i, name in enumerate(METRICS):
        mean = sum(line[i] for line in lines) / max(len(lines), 1)
        assert metrics[name] == pytest.approx(mean, rel=1e-6, abs=1e-9), name
    if switches.get("target_kl") == 0.01:  # it stops in between, or the policy that acted was too far away already
        assert len(lines) in ((1, 2, 3, 4, 5) if far == 0 else (0,))


def test_the_switches_of_this_file_all_matter():
    """Each changes the weights after an update of the policy that has moved on; what is equal would test nothing."""
    w, agents = some_agents(0.4)
    switches = {name: one for name, one in SWITCHES.items() if not name.startswith("growth")}  # see the next test
    after = {name: tuple(run_update(w, agents, settings(**one))[0].w.tolist()) for name, one in switches.items()}
    same = [{a, b} for a in after for b in after if a < b and after[a] == after[b]]
    assert same == [{"divergence allowed", "several minibatches"}]


@pytest.mark.parametrize(("growth", "largest"), [(None, 1.0), (1.5, 1.0), (1.1, 1e9), (1.1, 500.0), (3.0, 0.2)])
def test_gradients_are_divided_by_what_their_norm_exceeds(growth, largest):
    config = settings(grad_norm_growth=growth, max_grad_norm=largest)
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    guard = GuardedStep(Descent([weight]), CPU, growth)
    guard.usual = guard.usual.double()
    usual, clipped = 0.0, set()
    for norm in (0.1, 0.12, 0.5, 2.0, 0.01, 0.0, 0.3, 40.0, 1.0, 1.0):
        before = weight.item()
        weight.grad = torch.tensor([norm], dtype=torch.float64)
        guard.step(weight.grad.norm(), largest)
        shrink, usual = shrink_by_hand(norm, usual, config)
        clipped.add(shrink > 1)
        assert before - weight.item() == pytest.approx(RATE * norm / shrink, rel=1e-9, abs=1e-15)
        assert growth is None or guard.usual.item() == pytest.approx(usual, rel=1e-9)
    assert clipped == {True, False} or largest == 1e9


def test_every_epoch_sees_each_agent_once():
    w, agents = some_agents()
    policy, _ = run_update(w, agents, settings(num_minibatches=3, update_epochs=4))
    assert [len(rows) for rows in policy.seen] == [2] * 12
    epochs = [[*a, *b, *c] for a, b, c in zip(*[iter(policy.seen)] * 3, strict=True)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(AGENTS))] * 4
    assert len({tuple(epoch) for epoch in epochs}) > 1  # in another order


@pytest.mark.parametrize("shift", [0.3, -0.3])
@pytest.mark.parametrize("place", [(0, 0), (3, 2), (5, 3)])
def test_the_gap_is_that_of_the_one_sample_that_acting_and_learning_disagree_on(place, shift):
    w, agents = some_agents()
    assert run_update(w, agents, settings())[1]["consistency/max_logprob_gap"] < 1e-14
    agents[place[0]]["log_probs"][place[1]] += shift
    assert run_update(w, agents, settings())[1]["consistency/max_logprob_gap"] == pytest.approx(0.3, rel=1e-6)


# --- a whole training step --------------------------------------------------------------------------------------------

WORLD = {"recipe": "chain_recall", "env__k": 2, "env__episode_length": 5, "cortex__pattern": "X"}


class Watched:
    """A trainer, and what its environment and its learner were told in its latest training step."""

    def __init__(self, **changes):
        self.trainer = trainer = Trainer(tiny(**WORLD, **changes), ALONE)
        self.steps, self.last_values, self.told = [], None, None
        step, collect, update = trainer.env.step, trainer.collect, trainer.learner.update

        def watched_step(actions):
            result = step(actions)
            self.steps.append([x.clone() for x in (*result, trainer.env.final_obs)])
            return result

        def watched_collect():
            self.steps.clear()
            self.last_values = collect()
            return self.last_values

        def watched_update(segments, advantages, returns, generator):
            self.told = advantages.clone(), returns.clone()
            return update(segments, advantages, returns, generator)

        trainer.env.step, trainer.collect, trainer.learner.update = watched_step, watched_collect, watched_update


def test_advantages_and_returns_of_a_rollout_are_those_of_its_rewards_and_the_values_of_true_last_observations():
    gamma, lam = 0.7, 0.35
    watched = Watched(trainer__gamma=gamma, trainer__gae_lambda=lam)
    trainer = watched.trainer
    trainer.train_step()
    before = {name: value.clone() for name, value in trainer.policy.state_dict().items()}
    trainer.train_step()
    trainer.policy.load_state_dict(before)
    s = trainer.segments
    _, rewards, terminated, truncated, final_obs = (torch.stack(x, 1) for x in zip(*watched.steps, strict=True))
    assert not terminated.any()
    assert truncated.sum() >= trainer.env.num_agents  # each agent's episode is cut in these 8 steps
    state, bootstraps = s.start, torch.zeros_like(rewards)
    with torch.no_grad():
        for t in range(rewards.shape[1]):
            _, _, state = trainer.policy(s.obs[:, t], state, s.resets[:, t])
            still = torch.zeros_like(s.resets[:, t])  # the last observation belongs to the episode that is cut
            bootstraps[:, t] = trainer.policy(final_obs[:, t], state, still)[1]
    advantages, returns = watched.told
    for i in range(len(rewards)):
        bootstrapped = (gamma * bootstraps[i] * truncated[i]).tolist()
        paid = [reward + later for reward, later in zip(rewards[i].tolist(), bootstrapped, strict=True)]
        rest = s.values[i].tolist(), truncated[i].tolist(), watched.last_values[i].item()
        expected = advantages_by_hand(paid, *rest, gamma, lam)
        assert advantages[i].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
        total = [a + value for a, value in zip(expected, s.values[i].tolist(), strict=True)]
        assert returns[i].tolist() == pytest.approx(total, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("end", "warmup", "decay"),
    [(1.0, 0, 0.0), (0.25, 0, 0.0), (0.0, 0, 0.3), (0.25, 4, 0.3), (1.0, 100, 0.0)],
)
def test_weights_follow_adam_with_this_warm_up_end_of_the_step_size_and_weight_decay(end, warmup, decay):
    """AdamW in float64 on the gradients that the trainer found, with a step size of its own schedule."""
    updates, rate = 6, 0.01
    changes = {"learning_rate": rate, "learning_rate_end": end, "warmup_updates": warmup, "weight_decay": decay}
    changes = {f"trainer__{name}": value for name, value in changes.items()}
    trainer = Trainer(tiny(cortex__pattern="X", trainer__target_kl="none", **changes), ALONE)
    parameters = list(trainer.policy.parameters())
    found, step = [], trainer.optimizer.step

    def watched_step():
        found.append([p.grad.double() / trainer.optimizer.grad_scale.double() for p in parameters])
        step()

    trainer.optimizer.step = watched_step
    w = [p.detach().double().clone() for p in parameters]
    m, v, number = [torch.zeros_like(x) for x in w], [torch.zeros_like(x) for x in w], 0
    for update in range(updates):
        found.clear()
        line = trainer.train_step()
        warm = 1.0 if warmup == 0 else min(1.0, (update + 1) / warmup)
        lr = rate * warm * (1 + (end - 1) * update / updates)
        assert line["learning_rate"] == pytest.approx(lr, rel=1e-12)
        assert len(found) == 4
        for gradients in found:
            number += 1
            for i, g in enumerate(gradients):
                m[i] = 0.9 * m[i] + 0.1 * g
                v[i] = 0.999 * v[i] + 0.001 * g * g
                mean, square = m[i] / (1 - 0.9**number), v[i] / (1 - 0.999**number)
                w[i] = w[i] - lr * decay * w[i] - lr * mean / (square.sqrt() + 1e-5)
        for ours, expected in zip(parameters, w, strict=True):
            torch.testing.assert_close(ours.detach().double(), expected, rtol=1e-5, atol=1e-6)
