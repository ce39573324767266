"""The policy: what its heads give out."""

import torch

from memexp.cortex.config import CortexConfig
from memexp.policy.config import PolicyConfig
from memexp.policy.model import Policy
from memexp.spaces import VectorSpace


def test_under_bf16_values_and_logits_are_not_rounded_to_bf16():
    policy = Policy(VectorSpace(4), 3, CortexConfig(pattern="S", d_hidden=16, num_layers=1), PolicyConfig())
    obs, resets = torch.randn(64, 4), torch.ones(64, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        logits, values, _ = policy(obs, policy.init_state(64, torch.device("cpu")), resets)
    for out in (logits, values):
        assert out.dtype == torch.float32
        assert (out != out.bfloat16().float()).float().mean() > 0.5
