"""`memexp doctor --policy`: does somebody else's recurrent policy act with the probabilities that it learns with?

The policy plays on random observations, in which episodes begin anywhere. Then its learning pass computes the
log-probabilities of the same actions. T steps, N environments; arrays are NumPy's.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from memexp.config import UsageError, did_you_mean
from memexp.console import say
from memexp.modules import import_named
from memexp.runs import MAX_GAP

STEPS, ENVS, STARTS = 32, 8, 1 / 8
"""Steps of a sequence, environments, and the share of steps that start an episode."""
CERTAIN = 0.01
"""A policy whose actions have a smaller mean |log-probability| is almost certain: differences hardly show."""


class RecurrentPolicy(Protocol):
    """What `--policy module:callable` returns: a policy with its present weights. It must not change them."""

    observation_space: Any
    """Gymnasium's space of one observation."""

    def act(self, obs: np.ndarray, state: Any, starts: np.ndarray) -> tuple[Any, Any, Any]:
        """One step: obs `[N, ...]`, starts `[N]` bool -> actions `[N, ...]`, their log-probabilities `[N]`, state.

        `state` None is a fresh state. Where `starts`, the state is cleared before the step.
        """
        ...

    def learn(self, obs: np.ndarray, actions: np.ndarray, starts: np.ndarray, state: Any) -> Any:
        """A sequence from `state` on: obs `[T, N, ...]`, actions, starts `[T, N]` -> log-probabilities `[T, N]`."""
        ...


@dataclass
class PolicyReport:
    """Largest |log-probability when acting - log-probability when learning| of each check."""

    gaps: dict[str, float] = field(default_factory=dict)
    surprise: float = 0.0
    """Mean |log-probability| of the actions taken."""
    threshold: float = MAX_GAP["float32"]

    @property
    def ok(self) -> bool:
        return all(gap <= self.threshold for gap in self.gaps.values())

    def as_dict(self) -> dict[str, Any]:
        return {"max_logprob_gap": self.gaps, "mean_logprob": self.surprise, "threshold": self.threshold, "ok": self.ok}

    def print(self) -> None:
        for check, gap in self.gaps.items():
            say(f"{'ok    ' if gap <= self.threshold else 'FAILED'}  {check:40} {gap:.2e}")
        if self.surprise < CERTAIN:
            say("the policy is almost certain of its actions: differences hardly show; try one that is less trained")
        what = "at most" if self.ok else "the policy that acts is not the policy that learns: more than"
        say(f"{'ok' if self.ok else 'not ok'}: {what} {self.threshold:.0e}")


def examine_policy(name: str) -> PolicyReport:
    """Check the policy that `module:callable` returns. Raises UsageError if there is none or it lacks a method."""
    module, _, function = name.partition(":")
    if not module or not function:
        raise UsageError(f"--policy {name}: write module:callable")
    found = import_named(module, "--policy")
    names = [one for one in vars(found) if not one.startswith("_") and callable(getattr(found, one))]
    if function not in names:
        raise UsageError(f"--policy: {module} has no '{function}'{did_you_mean(function, names)}")
    try:
        policy: Any = getattr(found, function)()
    except Exception as error:
        raise UsageError(f"--policy: {name}() failed: {type(error).__name__}: {error}") from error
    for part in ("observation_space", "act", "learn"):
        if not hasattr(policy, part):
            raise UsageError(f"--policy: what {name} returns has no '{part}'")
    with np.errstate(all="ignore"):
        return examine(policy)


def examine(policy: RecurrentPolicy, seed: int = 0) -> PolicyReport:
    """Act and learn on the same sequences: without and with starts of episodes, from a fresh and from a later state."""
    rng, report = np.random.default_rng(seed), PolicyReport()
    policy.observation_space.seed(seed)
    first = np.zeros((STEPS, ENVS), dtype=bool)
    first[0] = True
    more = first | (rng.random((STEPS, ENVS)) < STARTS)
    _, report.gaps["one episode, from its start"], _ = _gap(policy, first, None)
    state, report.gaps["episodes start inside"], report.surprise = _gap(policy, more, None)
    _, report.gaps["from a later state"], _ = _gap(policy, more & ~first, state)
    # The same step after two histories: where an episode starts, both must be the same.
    obs, start = _observations(policy, 1), first[:1]
    actions, _, _ = policy.act(obs[0], state, start[0])
    after, fresh = (policy.learn(obs, np.asarray(actions)[None], start, before) for before in (state, None))
    report.gaps["a start clears the state"] = _largest(_array(after) - _array(fresh))
    return report


def _gap(policy: RecurrentPolicy, starts: np.ndarray, state: Any) -> tuple[Any, float, float]:
    """State after the sequence, largest difference (infinite for NaN) and mean |log-probability| of its actions."""
    obs, before, actions, acted = _observations(policy, len(starts)), state, [], []
    for step, start in zip(obs, starts, strict=True):
        answer = policy.act(step, state, start)
        if not isinstance(answer, tuple) or len(answer) != 3 or _array(answer[1]).shape != start.shape:
            raise UsageError(f"--policy: act must return (actions, log-probabilities [N = {len(start)}], state)")
        action, log_prob, state = answer
        actions.append(_array(action))
        acted.append(_array(log_prob))
    learned = _array(policy.learn(obs, np.stack(actions), starts, before))
    if learned.shape != starts.shape:
        raise UsageError(f"--policy: learn returns shape {list(learned.shape)}, not [T, N] = {list(starts.shape)}")
    return state, _largest(learned - np.stack(acted)), float(np.abs(learned).mean())


def _observations(policy: RecurrentPolicy, steps: int) -> np.ndarray:
    return np.array([[policy.observation_space.sample() for _ in range(ENVS)] for _ in range(steps)])


def _largest(difference: np.ndarray) -> float:
    largest = float(np.abs(difference).max())
    return largest if np.isfinite(largest) else float("inf")


def _array(value: Any) -> np.ndarray:
    """A copy of an array, or of a tensor of any library."""
    return np.array(value.detach().cpu() if hasattr(value, "detach") else value)
