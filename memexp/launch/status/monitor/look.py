"""How one run stands at this moment, with all that the dashboard shows of it."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from memexp.launch.status.monitor.metrics import COUNT, EVAL, GAP, RETURN, STEPS, WALL, Metrics
from memexp.launch.status.state import end_of, is_locked, log_lines
from memexp.launch.status.status import info_of
from memexp.runs import MAX_GAP, Run, RunInfo
from memexp.runs.directory import ExitStatus

State = ExitStatus | Literal["waiting", "starting", "running", "stalled", "interrupted"]
"""'waiting': not begun. 'starting': a process works on it, before its first update. 'stalled': one does, but
it has been silent for much longer than it usually is. 'interrupted': begun, not ended, and no process works on it."""

FUNNEL = "env/funnel/"
SPLIT = ("rollout", "engine", "update", "logging")
"""Parts of an update's time: the metrics time/<part>, in seconds."""
COURSE = 60
"""Points of the course of the return in JSON."""
SILENT, SILENT_S = 10, 30.0
"""A run is stalled after so many of its usual intervals, and so many seconds, without a line."""
SMOOTH = 0.05
"""Share of the agent steps done so far that a point of the course is a mean over."""
DEAD, DEAD_S = 3, 10.0
"""A run counts as running for so many of its longest recent intervals, and so many seconds, after a line: its
process may be on another machine."""


@dataclass(frozen=True)
class Place:
    """A run to look at; what its matrix file says of it, before it says so itself."""

    run: Run
    env: str | None = None
    arm: str | None = None
    seed: int | None = None
    total_timesteps: int | None = None


@dataclass(frozen=True, eq=False)
class Look:
    """One run at one moment; None where not known."""

    run: str
    state: State
    reason: str | None = None
    """Why it ended as it did, or what it says while it starts."""
    info: RunInfo | None = None
    env: str | None = None
    arm: str | None = None
    seed: int | None = None
    agent_steps: int = 0
    total_timesteps: int | None = None
    sps: float | None = None
    """Agent steps per second over the last lines, evaluations and checkpoints included."""
    eta_s: float | None = None
    elapsed_s: float | None = None
    """Seconds trained, over all stretches."""
    silent_s: float | None = None
    """Seconds since the last line."""
    episode_return: float | None = None
    """Mean over the episodes of the last updates in which one ended."""
    eval_return: float | None = None
    funnel: dict[str, float] = field(default_factory=dict)
    """Milestone -> share of agents that reached it lately."""
    stats: dict[str, float] = field(default_factory=dict)
    """The environment's other statistics of an episode lately."""
    entropy_share: float | None = None
    """Of the entropy of the uniformly random policy, ln(num_actions)."""
    max_gap: float | None = None
    """Largest consistency/max_logprob_gap of the whole run."""
    gap_limit: float = MAX_GAP["float32"]
    gpu_utilization: float | None = None
    """Percent."""
    gpu_memory_gb: float | None = None
    time_split: dict[str, float] | None = None
    """Part of an update -> seconds, mean over the last lines."""
    checkpoint_age_minutes: float | None = None
    """When the last line was written."""
    checkpoint_failed: float | None = None
    """Attempts since the newest one."""
    curve: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    """[updates in which an episode ended, (agent steps, mean return, episodes)]."""

    @property
    def share(self) -> float:
        """Of its agent steps that are done."""
        return min(1.0, self.agent_steps / self.total_timesteps) if self.total_timesteps else 0.0

    @property
    def consistent(self) -> bool | None:
        return None if self.max_gap is None else self.max_gap <= self.gap_limit

    @property
    def alarms(self) -> list[str]:
        """What somebody should look at, one line each."""
        found = []
        if self.state in ("failed", "interrupted"):
            found.append(f"{self.state}: {self.reason}" if self.reason else f"{self.state} before it was done")
        if self.state == "stalled":
            found.append(f"silent for {self.silent_s or 0:,.0f} s")
        if self.consistent is False:
            found.append(
                f"inconsistent: log-probabilities differ by {self.max_gap:.1e}, {self.gap_limit:.0e} is allowed"
            )
        if self.checkpoint_failed:
            found.append(f"{self.checkpoint_failed:.0f} attempts to write a checkpoint failed since the newest one")
        return found

    def course(self, points: int, until: int | None = None) -> list[float | None]:
        """The mean return at `points` even places of the agent steps done so far, or of `until`, each over the SMOOTH
        share of them before it (or since the place before, if longer); where no episode ended there, as before."""
        if not len(self.curve):
            return []
        steps, returns, weight = self.curve.T
        end = until or self.agent_steps
        at = end * np.arange(1, points + 1) / points
        first = np.searchsorted(steps, at - end * max(SMOOTH, 1 / points), side="right")
        last = np.searchsorted(steps, at, side="right")
        total, episodes = (np.concatenate([[0.0], np.cumsum(column)]) for column in (returns * weight, weight))
        sums, counts = total[last] - total[first], episodes[last] - episodes[first]
        means: list[float | None] = []
        for place, whole, count in zip(at, sums, counts, strict=True):
            reached = place < self.agent_steps + end / points
            before = means[-1] if means else None
            means.append(float(whole / count) if count and reached else before if reached else None)
        return means

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; what is not finite is not known."""
        known = {key: value for key, value in vars(self).items() if key not in ("info", "curve")}
        levels = ("matrix", "random_return", "ceiling_return", "memoryless_return", "oracle_return", "random_funnel")
        known |= {name: getattr(self.info, name, None) for name in levels}
        known |= {"consistent": self.consistent, "alarms": self.alarms, "course": self.course(COURSE)}
        return _finite(known)


class Watch:
    """One run, looked at again and again; what does not change is read once."""

    def __init__(self, place: Place):
        self.place, self.metrics = place, Metrics(place.run.path / "metrics.jsonl")
        self._info: RunInfo | None = None
        self._limit: float | None = None
        self._known: dict[str, Any] = {}

    def look(self) -> Look:
        place = self.place
        if self.metrics.look() or not self._known:
            self._info = info_of(place.run)
            self._known = self._measured(self._info)
        info = self._info
        outcome = end_of(place.run)
        steps = self.metrics.column(STEPS)
        silent = time.time() - self.metrics.changed if len(steps) else None
        state = outcome.status if outcome else self._state(silent)
        done = int(np.nanmax(steps, initial=0))
        total = info.total_timesteps if info else place.total_timesteps
        rate = self._rate()
        live = state in ("running", "stalled")
        return Look(
            run=place.run.name,
            state=state,
            reason=outcome.reason if outcome else self._last_words() if state in ("starting", "interrupted") else None,
            info=info,
            env=info.env if info else place.env,
            arm=info.arm if info else place.arm,
            seed=info.seed if info else place.seed,
            agent_steps=done,
            total_timesteps=total,
            sps=rate,
            eta_s=max(0, total - done) / rate if live and rate and total else None,
            silent_s=silent if live else None,
            **self._known,
        )

    def _state(self, silent: float | None) -> State:
        """The state of a run that has not ended. The lock is tried as seldom as can be: trying it holds it."""
        run = self.place.run
        if silent is None:
            return "starting" if is_locked(run) else "interrupted" if run.exists() else "waiting"
        gaps = np.diff(self._recent(WALL))
        usual, longest = (float(np.median(gaps)), float(gaps.max())) if len(gaps) else (0.0, 0.0)
        if silent <= max(DEAD * longest, DEAD_S):
            return "running"
        if not is_locked(run):
            return "interrupted"
        return "stalled" if silent > max(SILENT * usual, DEAD * longest, SILENT_S) else "running"

    def _recent(self, name: str) -> np.ndarray:
        values = (record.get(name) for record in self.metrics.recent)
        return np.array([value for value in values if isinstance(value, int | float)], dtype=float)

    def _rate(self) -> float | None:
        """Agent steps a second over the last lines; of a run with one line, as that says."""
        steps, wall = self._recent(STEPS), self._recent(WALL)
        if len(steps) < 2 or len(steps) != len(wall) or wall[-1] <= wall[0]:
            return self.metrics.latest("sps")
        return float((steps[-1] - steps[0]) / (wall[-1] - wall[0]))

    def _measured(self, info: RunInfo | None) -> dict[str, Any]:
        """What the metrics say, as fields of Look."""
        metrics = self.metrics
        gaps, evals = (column[~np.isnan(column)] for column in map(metrics.column, (GAP, EVAL)))
        curve = np.stack([metrics.column(name) for name in (STEPS, RETURN, COUNT)], axis=1)
        curve = curve[~np.isnan(curve[:, :2]).any(1)]
        curve[:, 2] = np.nan_to_num(curve[:, 2], nan=1.0)
        means = _means(metrics.scored)
        entropy = metrics.latest("policy/entropy")
        actions = info.num_actions or 1 if info else 1
        uniform = math.log(actions)
        return {
            "elapsed_s": metrics.latest(WALL),
            "episode_return": means.get(RETURN),
            "eval_return": float(evals[-1]) if len(evals) else None,
            "funnel": {name.removeprefix(FUNNEL): mean for name, mean in means.items() if name.startswith(FUNNEL)},
            "stats": {
                name.removeprefix("env/"): mean
                for name, mean in means.items()
                if name.startswith("env/") and not name.startswith(FUNNEL)
            },
            "entropy_share": entropy / uniform if entropy is not None and uniform else None,
            "max_gap": float(gaps.max()) if len(gaps) else None,
            "gap_limit": self._gap_limit(),
            "gpu_utilization": metrics.latest("gpu/utilization"),
            "gpu_memory_gb": metrics.latest("gpu/memory_gb"),
            "time_split": self._time_split() or None,
            "checkpoint_age_minutes": metrics.latest("checkpoint/age_minutes"),
            "checkpoint_failed": metrics.latest("checkpoint/failed"),
            "curve": curve,
        }

    def _time_split(self) -> dict[str, float]:
        """The engine's time is part of the rollout's in the metrics, and beside it here."""
        times = {part: self._recent(f"time/{part}") for part in SPLIT}
        split = {part: float(seconds.mean()) for part, seconds in times.items() if len(seconds)}
        if "rollout" in split:
            split["rollout"] = max(0.0, split["rollout"] - split.get("engine", 0.0))
        return split

    def _gap_limit(self) -> float:
        if self._limit is None:
            try:
                self._limit = MAX_GAP[self.place.run.config["trainer"]["precision"]]
            except (OSError, ValueError, KeyError, TypeError):
                return MAX_GAP["float32"]
        return self._limit

    def _last_words(self) -> str | None:
        """The last line of its log, where it keeps one."""
        lines = log_lines(self.place.run)
        return lines[-1].strip() if lines else None


def _means(records: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Mean of every metric of episodes over `records`, weighted by the episodes of each."""
    sums: dict[str, tuple[float, float]] = {}
    for record in records:
        weight = record.get(COUNT) or 1.0
        for name, value in record.items():
            if (name == RETURN or name.startswith("env/")) and isinstance(value, int | float):
                total, episodes = sums.get(name, (0.0, 0.0))
                sums[name] = total + weight * value, episodes + weight
    return {name: total / episodes for name, (total, episodes) in sums.items()}


def _finite(value: Any) -> Any:
    """`value` with None for every number that JSON cannot write."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
