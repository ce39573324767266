"""The funnel of an environment: which share of agents reaches each milestone on the way to reward."""

import numpy as np

from memexp.analysis.seeds import FINAL_SHARE, Arm, Environment


def random_funnel(environment: Environment) -> dict[str, float]:
    """Milestone -> share of the random policy's agents and episodes, mean over the runs that measured it."""
    known = [seed.info.random_funnel for seed in environment.seeds if seed.info.random_funnel]
    names = dict.fromkeys(name for funnel in known for name in funnel)
    return {name: float(np.mean([funnel[name] for funnel in known if name in funnel])) for name in names}


def arm_funnel(arm: Arm) -> dict[str, float]:
    """The same of an arm over the last tenth of its steps, mean over seeds (of unfinished runs where none finished)."""
    seeds = arm.seeds or arm.partial
    names = dict.fromkeys(name for seed in seeds for name in seed.funnel)
    found = {}
    for name in names:
        ends = [
            float(seed.trailing(seed.funnel[name], np.array([end]), FINAL_SHARE * end)[0])
            for seed in seeds
            if name in seed.funnel and (end := min(seed.reached, arm.budget))
        ]
        known = [value for value in ends if np.isfinite(value)]
        if known:
            found[name] = float(np.mean(known))
    return found
