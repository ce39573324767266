"""Reference levels: what players that do not learn reach, and how far back the task asks to remember."""

from typing import Any

from memexp.analysis.seeds import Environment


def levels(environment: Environment, solved: float | None) -> dict[str, Any]:
    """Returns of players that do not learn, and the return from which an arm solves; None where not known.

    `random` has the mean and spread over the seeds that measured the uniformly random policy; `memoryless` and
    `ceiling` are scripted players without and with memory, `oracle` one that sees the whole state.
    """
    random = environment.random_returns
    n = len(random)
    return {
        "random": {
            "mean": float(random.mean()) if n else None,
            "sd": float(random.std(ddof=1)) if n > 1 else None,
            "n": n,
        },
        "memoryless": environment.memoryless,
        "ceiling": environment.ceiling,
        "oracle": environment.oracle,
        "solved": solved,
    }


def memory_span(environment: Environment) -> int | None:
    """Agent steps that the task asks to remember, where its runs state it; the longest where they differ."""
    spans = [seed.info.memory_span for seed in environment.seeds]
    return max((span for span in spans if span is not None), default=None)
