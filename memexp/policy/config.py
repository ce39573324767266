"""Sizes of the encoder and the heads around the memory stack. Imports neither torch nor numba."""

from pydantic import Field

from memexp.config import Config


class PolicyConfig(Config):
    """Observation encoder and heads."""

    d_encoder: int | None = Field(default=None, gt=0)
    """Width of the observation encoder's hidden layer; None: twice as wide as the stack."""
    d_actor: int = Field(default=64, gt=0)
    """Hidden width of the actor head."""
    d_critic: int = Field(default=64, gt=0)
    """Hidden width of the critic head."""
