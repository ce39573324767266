"""The policy: one module that acts (one step) and learns (a whole segment) with the same function."""

import torch
from torch import Tensor, nn

from memexp.cortex import build_stack
from memexp.cortex.config import CortexConfig
from memexp.cortex.kernels.linear import Linear
from memexp.policy.actions import AppendLogStd, build_actions, only_allowed
from memexp.policy.config import PolicyConfig
from memexp.policy.encoder import build_encoder
from memexp.policy.gym_encoders import SumOverRanks, update_statistics
from memexp.spaces import (
    ActionSpace,
    ContinuousActions,
    DiscreteActions,
    ObservationSpace,
    StructSpace,
    allowed_actions,
)

State = dict[str, Tensor]
"""Memory state of all rows: a flat dict of tensors `[N, ...]` that the caller owns."""


class Policy(nn.Module):
    """Observation encoder -> memory stack -> actor and critic heads.

    Shapes: observations of N rows or `[B, T]` steps; logits `[..., actions.num_outputs]`, values `[...]`. `actions` is
    the family of distributions that the logits choose from (continuous: means and log standard deviations). Where the
    observation holds an action mask, forbidden actions have probability 0.
    """

    def __init__(
        self, observation: ObservationSpace, actions: ActionSpace | int, cortex: CortexConfig, config: PolicyConfig
    ):
        """`actions` may be a number of discrete actions."""
        super().__init__()
        space = DiscreteActions(actions) if isinstance(actions, int) else actions
        self.observation = observation
        self.actions = build_actions(space, isinstance(observation, StructSpace) and observation.mask is not None)
        d = cortex.d_hidden
        self.encoder = build_encoder(observation, config.d_encoder or 2 * d, d)
        self.stack = build_stack(**cortex.model_dump())
        if isinstance(space, ContinuousActions):
            self.actor = _head(d, config.d_actor, space.size, gain=0.01).append(AppendLogStd(space.size))
        else:
            self.actor = _head(d, config.d_actor, self.actions.num_outputs, gain=0.01)
        self.critic = _head(d, config.d_critic, 1, gain=1.0)

    def init_state(self, batch: int, device: torch.device) -> State:
        """The state of `batch` rows at the start of an episode, without gradient, also if a cell has learnt it."""
        return {key: leaf.detach() for key, leaf in self.stack.init_state(batch, device, torch.float32).items()}

    def forward(self, obs: Tensor, state: State, resets: Tensor) -> tuple[Tensor, Tensor, State]:
        """obs `[N, ...]`, resets `[N]` (or `[B, T, ...]`, `[B, T]`) -> logits, values, state after the last step.

        resets is True where a step starts a new episode: its row's state is cleared before the step.
        """
        y, state = self.stack(self.encoder(obs), state, resets)
        with torch.autocast(y.device.type, enabled=False):  # bf16 is too coarse for logits and returns
            y = y.float()
            return self._masked(self.actor(y), obs), self.critic(y).squeeze(-1), state

    def _masked(self, logits: Tensor, obs: Tensor) -> Tensor:
        allowed = allowed_actions(obs, self.observation)
        return logits if allowed is None else only_allowed(logits, allowed)

    def max_entropy(self, obs: Tensor) -> float:
        """Mean entropy of the widest policy on these observations, nats: uniform over the allowed actions."""
        allowed = allowed_actions(obs, self.observation)
        if allowed is None:
            return self.actions.max_entropy
        return self.actions.entropy(only_allowed(torch.zeros(allowed.shape, device=obs.device), allowed)).mean().item()

    def update_statistics(self, obs: Tensor, sum_over_ranks: SumOverRanks) -> None:
        """Add observations `[..., *shape]` to the encoder's running statistics; `sum_over_ranks` adds up over ranks.

        Call it only between updates: the acting and the learning pass of an update must see the same statistics.
        """
        update_statistics(self.encoder, obs, sum_over_ranks)


def _head(d_in: int, d_hidden: int, d_out: int, gain: float) -> nn.Sequential:
    """A head of one hidden layer; a small gain makes the first policy uniform."""
    last = nn.Linear(d_hidden, d_out)  # so small that PyTorch's own is faster
    nn.init.orthogonal_(last.weight, gain)
    nn.init.zeros_(last.bias)
    return nn.Sequential(Linear(d_in, d_hidden), nn.SiLU(), last)
