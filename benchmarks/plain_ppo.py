"""The plain baseline of benchmarks/train.py: recurrent PPO in one file, in the manner of CleanRL's ppo_atari_lstm.py
(https://docs.cleanrl.dev/rl-algorithms/ppo/#ppo_atari_lstmpy), on our worlds, with torch.nn.LSTM.

As there: the LSTM is stepped in Python with the state cleared at episode starts, minibatches are of whole agents,
losses are PyTorch's, metrics are read with .item().
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from memexp.envs.base import VecEnv
from memexp.ppo.config import TrainerConfig
from memexp.ppo.trainer import autocast


def layer_init(layer: nn.Linear, std: float = np.sqrt(2)) -> nn.Linear:
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, 0.0)
    return layer


class Agent(nn.Module):
    """An encoder of observations, one LSTM of width d, heads of one hidden layer of 64."""

    def __init__(self, network: nn.Module, num_actions: int, d: int):
        super().__init__()
        self.network = network
        self.lstm = nn.LSTM(d, d)
        self.actor = nn.Sequential(
            layer_init(nn.Linear(d, 64)), nn.Tanh(), layer_init(nn.Linear(64, num_actions), 0.01)
        )
        self.critic = nn.Sequential(layer_init(nn.Linear(d, 64)), nn.Tanh(), layer_init(nn.Linear(64, 1), 1))

    def get_states(self, x: Tensor, state: tuple[Tensor, Tensor], done: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        hidden = self.network(x)
        batch = state[0].shape[1]
        hidden, done = hidden.reshape((-1, batch, self.lstm.input_size)), done.reshape((-1, batch))
        new_hidden = []
        for h, d in zip(hidden, done, strict=True):
            kept = ((1.0 - d).view(1, -1, 1) * state[0], (1.0 - d).view(1, -1, 1) * state[1])
            h, state = self.lstm(h.unsqueeze(0), kept)
            new_hidden += [h]
        return torch.flatten(torch.cat(new_hidden), 0, 1), state

    def get_action_and_value(self, x, state, done, action=None):  # as in CleanRL
        hidden, state = self.get_states(x, state, done)
        probs = Categorical(logits=self.actor(hidden).float())
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(hidden).float().flatten(), state


class Flat(nn.Sequential):
    """Observations as they are, flattened, through two linear layers."""

    def __init__(self, obs_size: int, d_encoder: int, d: int):
        first, second = layer_init(nn.Linear(obs_size, d_encoder)), layer_init(nn.Linear(d_encoder, d))
        super().__init__(first, nn.ReLU(), second, nn.ReLU())

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flatten(1) / 255.0)


class PlainPPO:
    """`update()` plays `horizon` steps and learns from them; returns the number of agent steps."""

    def __init__(self, env: VecEnv, hyper: TrainerConfig, d: int, network: nn.Module):
        self.env, self.args, self.device = env, hyper, env.device
        self.next_obs, self.n = env.desync(), env.num_agents
        self.agent = Agent(network, env.num_actions, d).to(self.device)
        self.optimizer = torch.optim.Adam(self.agent.parameters(), lr=hyper.learning_rate, eps=1e-5)
        self.next_done = torch.zeros(self.n, device=self.device)
        self.state = tuple(torch.zeros(1, self.n, d, device=self.device) for _ in range(2))

    def update(self) -> int:
        first = self.state
        obs, actions, logprobs, dones, values, rewards = self.rollout()
        returns, advantages = self.advantages(values, rewards, dones)
        b = (obs.flatten(0, 1), actions.flatten(), logprobs.flatten(), dones.flatten(), advantages.flatten())
        self.learn(first, *b, returns.flatten(), values.flatten())
        return actions.numel()

    @torch.no_grad()
    def rollout(self) -> list[Tensor]:
        kept: list[list[Tensor]] = [[] for _ in range(6)]
        for _ in range(self.args.horizon):
            obs, done = self.next_obs.clone(), self.next_done
            with autocast(self.args.precision, self.device):
                action, logprob, _, value, self.state = self.agent.get_action_and_value(obs, self.state, done)
            self.next_obs, reward, terminated, truncated = self.env.step(action)
            self.next_done = (terminated | truncated).float()
            for column, part in zip(kept, (obs, action, logprob, done, value, reward.clone()), strict=True):
                column.append(part)
        self.env.pop_episodes()
        return [torch.stack(column) for column in kept]

    @torch.no_grad()
    def advantages(self, values: Tensor, rewards: Tensor, dones: Tensor) -> tuple[Tensor, Tensor]:
        args, last = self.args, 0.0
        next_value = self.agent.get_action_and_value(self.next_obs, self.state, self.next_done)[3]
        advantages = torch.zeros_like(rewards)
        for t in reversed(range(args.horizon)):
            end = t == args.horizon - 1
            going_on = 1.0 - (self.next_done if end else dones[t + 1])
            delta = rewards[t] + args.gamma * (next_value if end else values[t + 1]) * going_on - values[t]
            advantages[t] = last = delta + args.gamma * args.gae_lambda * going_on * last
        return advantages + values, advantages

    def learn(self, first, obs, actions, logprobs, dones, advantages, returns, values) -> None:
        args, inds = self.args, np.arange(self.n)
        flat = np.arange(self.n * args.horizon).reshape(args.horizon, self.n)
        for _ in range(args.update_epochs):
            np.random.shuffle(inds)
            for chosen in np.array_split(inds, args.num_minibatches):
                mb = torch.from_numpy(flat[:, chosen].ravel()).to(self.device)
                start = (first[0][:, chosen], first[1][:, chosen])
                with autocast(args.precision, self.device):
                    _, new, entropy, value, _ = self.agent.get_action_and_value(obs[mb], start, dones[mb], actions[mb])
                ratio = (new - logprobs[mb]).exp()
                self.clipfrac = ((ratio - 1.0).abs() > args.clip).float().mean().item()
                a = advantages[mb]
                a = (a - a.mean()) / (a.std() + 1e-8)
                policy_loss = torch.max(-a * ratio, -a * ratio.clamp(1 - args.clip, 1 + args.clip)).mean()
                value_loss = 0.5 * ((value - returns[mb]) ** 2).mean()
                loss = policy_loss - args.entropy_coefficient * entropy.mean() + args.value_coefficient * value_loss
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.agent.parameters(), args.max_grad_norm)
                self.optimizer.step()
