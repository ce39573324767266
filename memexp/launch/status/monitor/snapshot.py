"""A run at one moment, with everything that the dashboard shows."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from memexp.launch.status.targets import Target, Targets
from memexp.runs import MAX_GAP, Run, RunInfo
from memexp.runs.metrics import COUNT, EVAL, GAP, RETURN, STEPS, WALL, MetricsTail, latest, rate_over, recent_means
from memexp.runs.status import RunStatus, State, end_of, info_of, is_locked, known, log_lines, lost_metrics

SPLIT = ("rollout", "engine", "update", "logging")
"""Parts of an update's time: the metrics time/<part>, in seconds."""
CURVE_POINTS = 60
"""Points of the smoothed return curve in JSON."""
SMOOTH = 0.05
"""A point of the curve is a mean over this share of the agent steps done so far."""
SILENT, SILENT_S = 10, 30.0
"""A run is stalled after this many of its usual intervals, and this many seconds, without a new line."""
DEAD, DEAD_S = 3, 10.0
"""A run counts as running for this many of its longest recent intervals, and this many seconds, after a line, even if
no process of this machine holds its lock: its process may be on another machine."""
NOT_SHOWN = ("path", "info", "curve", "job", "recoveries", "hours", "spent", "projected")
"""Fields that the JSON of the monitor does not have."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RunSnapshot(RunStatus):
    """The status of a run and its recent measurements; None where not known."""

    path: Path = Path()
    info: RunInfo | None = None
    elapsed_s: float | None = None
    """Seconds trained, over all starts."""
    silent_s: float | None = None
    """Seconds since the last line of metrics."""
    eval_return: float | None = None
    funnel: dict[str, float] = field(default_factory=dict[str, float])
    """Milestone -> share of agents that reached it in recent episodes."""
    stats: dict[str, float] = field(default_factory=dict[str, float])
    """The environment's other statistics of recent episodes."""
    entropy_share: float | None = None
    """Policy entropy divided by that of the uniformly random policy, ln(num_actions)."""
    max_gap: float | None = None
    """Largest consistency/max_logprob_gap of the whole run."""
    gap_limit: float = MAX_GAP["float32"]
    gpu_utilization: float | None = None
    """Percent."""
    gpu_memory_gb: float | None = None
    time_split: dict[str, float] | None = None
    """Part of an update -> seconds, mean over the last lines."""
    checkpoint_age_minutes: float | None = None
    """Age when the last line was written."""
    checkpoint_failed: float | None = None
    """Failed attempts since the newest checkpoint."""
    curve: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    """[updates in which an episode ended, (agent steps, mean return, episodes)]."""

    @property
    def consistent(self) -> bool | None:
        """Whether acting and learning agree; None if it was not measured."""
        return None if self.max_gap is None else self.max_gap <= self.gap_limit

    @property
    def alarms(self) -> list[str]:
        """Problems that a user should look at, one line each."""
        found: list[str] = []
        if self.state in (State.FAILED, State.INTERRUPTED):
            found.append(f"{self.state}: {self.reason}" if self.reason else f"{self.state} before it was done")
        if self.state is State.STALLED:
            found.append(f"silent for {self.silent_s or 0:,.0f} s")
        if self.consistent is False:
            found.append(
                f"inconsistent: log-probabilities differ by {self.max_gap:.1e}, {self.gap_limit:.0e} is allowed"
            )
        if self.checkpoint_failed:
            found.append(f"{self.checkpoint_failed:.0f} attempts to write a checkpoint failed since the newest one")
        return [*found, *self.problems]

    def smoothed(self, points: int, until: int | None = None) -> list[float | None]:
        """The mean return at `points` equal steps up to the agent steps done so far, or up to `until`.

        Each is a mean over the SMOOTH share of the agent steps before it, or since the point before if that is longer.
        If no episode ended there, the value before is repeated.
        """
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
        """The snapshot for JSON, with None for every number that is not finite."""
        known = {key: value for key, value in vars(self).items() if key not in NOT_SHOWN}
        levels = ("random_return", "ceiling_return", "memoryless_return", "oracle_return", "random_funnel")
        known |= {name: getattr(self.info, name, None) for name in levels}
        known |= {"consistent": self.consistent, "alarms": self.alarms, "course": self.smoothed(CURVE_POINTS)}
        return json.loads(json.dumps(known), parse_constant=lambda constant: None)


class SnapshotReader:
    """Takes snapshots of one run again and again. What does not change is read once."""

    def __init__(self, run: Run, planned: RunStatus | None = None):
        """`planned`: what the matrix file says about the run, used until run.json exists."""
        self.run, self.metrics = run, MetricsTail(run.path / "metrics.jsonl")
        self.planned = planned or RunStatus(run=run.name, state=State.NEW)
        self._info: RunInfo | None = None
        self._gap_limit: float | None = None
        self._measured: dict[str, Any] = {}

    def read(self) -> RunSnapshot:
        """The run as it is now."""
        run, planned, metrics = self.run, self.planned, self.metrics
        problems: list[str] = []
        changed = known(metrics.update, problems)
        if changed or not self._info:
            self._info = info_of(run, problems)
        if changed or not self._measured:
            self._measured = self._measure(self._info)
        info, outcome = self._info, end_of(run, problems)
        limit = known(self._limit, problems) or MAX_GAP["float32"]
        steps = metrics.column(STEPS)
        problems += lost_metrics(outcome, steps[-1] if len(steps) else 0)
        silent = time.time() - metrics.changed if len(steps) else None
        state = State(outcome.status) if outcome else self._state(silent)
        done = int(np.nanmax(steps, initial=0))
        total = info.total_timesteps if info else planned.total_timesteps
        rate = rate_over(metrics.recent)
        live = state in (State.RUNNING, State.STALLED)
        reason = outcome.reason if outcome else None
        if state in (State.STARTING, State.INTERRUPTED):
            reason = next((line.strip() for line in reversed(log_lines(run))), None)
        return RunSnapshot(
            run=run.name,
            path=run.path,
            state=state,
            reason=reason,
            info=info,
            matrix=info.matrix if info else None,
            env=info.env if info else planned.env,
            arm=info.arm if info else planned.arm,
            seed=info.seed if info else planned.seed,
            agent_steps=done,
            total_timesteps=total,
            sps=rate,
            eta_s=max(0, total - done) / rate if live and rate and total else None,
            silent_s=silent if live else None,
            problems=tuple(problems),
            gap_limit=limit,
            **self._measured,
        )

    def _state(self, silent: float | None) -> State:
        """The state of a run that has not ended, `silent` seconds after its last line.

        It tries the lock only if it must, because a trainer that starts at this moment would find the lock taken.
        """
        run = self.run
        if silent is None:
            return State.STARTING if is_locked(run) else State.INTERRUPTED if run.exists() else State.NEW
        intervals = np.diff(self._recent(WALL))
        usual, longest = (float(np.median(intervals)), float(intervals.max())) if len(intervals) else (0.0, 0.0)
        if silent <= max(DEAD * longest, DEAD_S):
            return State.RUNNING
        if not is_locked(run):
            return State.INTERRUPTED
        return State.STALLED if silent > max(SILENT * usual, DEAD * longest, SILENT_S) else State.RUNNING

    def _recent(self, name: str) -> np.ndarray:
        values = (record.get(name) for record in self.metrics.recent)
        return np.array([value for value in values if isinstance(value, int | float)], dtype=float)

    def _measure(self, info: RunInfo | None) -> dict[str, Any]:
        """The fields of RunSnapshot that come from the metrics."""
        metrics, recent = self.metrics, self.metrics.recent
        gaps, evals = (column[~np.isnan(column)] for column in map(metrics.column, (GAP, EVAL)))
        curve = np.stack([metrics.column(name) for name in (STEPS, RETURN, COUNT)], axis=1)
        curve = curve[~np.isnan(curve[:, :2]).any(1)]
        curve[:, 2] = np.nan_to_num(curve[:, 2], nan=1.0)
        means = recent_means(list(metrics.scored))
        env = {name.removeprefix("env/"): mean for name, mean in means.items() if name.startswith("env/")}
        entropy = latest(recent, "policy/entropy")
        uniform = math.log((info.num_actions if info else None) or 1)
        return {
            "elapsed_s": latest(recent, WALL),
            "episode_return": means.get(RETURN),
            "eval_return": float(evals[-1]) if len(evals) else None,
            "funnel": {k.removeprefix("funnel/"): mean for k, mean in env.items() if k.startswith("funnel/")},
            "stats": {k: mean for k, mean in env.items() if not k.startswith("funnel/")},
            "entropy_share": entropy / uniform if entropy is not None and uniform else None,
            "max_gap": float(gaps.max()) if len(gaps) else None,
            "gpu_utilization": latest(recent, "gpu/utilization"),
            "gpu_memory_gb": latest(recent, "gpu/memory_gb"),
            "time_split": self._time_split() or None,
            "checkpoint_age_minutes": latest(recent, "checkpoint/age_minutes"),
            "checkpoint_failed": latest(recent, "checkpoint/failed"),
            "curve": curve,
        }

    def _time_split(self) -> dict[str, float]:
        """Mean seconds of each part. In the metrics the rollout's time includes the engine's; here it does not."""
        times = {part: self._recent(f"time/{part}") for part in SPLIT}
        split = {part: float(seconds.mean()) for part, seconds in times.items() if len(seconds)}
        if "rollout" in split:
            split["rollout"] = max(0.0, split["rollout"] - split.get("engine", 0.0))
        return split

    def _limit(self) -> float:
        """The largest gap that the run's precision allows."""
        if self._gap_limit is None:
            self._gap_limit = MAX_GAP.get(str(self.run.setting("trainer", "precision")), MAX_GAP["float32"])
        return self._gap_limit


class Snapshots:
    """Takes snapshots of all runs of a target. Runs that begin later are found, too."""

    def __init__(self, target: Target | Targets):
        self.target = target
        self._readers: dict[Path, SnapshotReader] = {}

    def read(self) -> Iterator[RunSnapshot]:
        """The runs as they are now."""
        for run in self.target.runs(unknown=True):
            if run.path not in self._readers:
                self._readers[run.path] = SnapshotReader(run, self.target.planned.get(run.name))
            yield self._readers[run.path].read()
