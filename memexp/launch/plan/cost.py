"""What a launch takes before anything runs: hours, dollars and agent steps per second, from measured figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from memexp.launch.plan.prices import Price, node_prices
from memexp.launch.plan.resources import Resources
from memexp.launch.plan.run_spec import RunSpec
from memexp.launch.plan.throughput import Speed, expected_speed, measured_speed, measured_speeds, table_name
from memexp.machine import cpu_name, gpu_names, visible_gpus
from memexp.runs import Run
from memexp.runs.status import reached


@dataclass(frozen=True)
class Estimate:
    """What is left of one run, or the sum over runs."""

    hours: float
    dollars_low: float | None = None
    """At spot prices where spot is allowed, without an interruption; None where no price is known."""
    dollars_high: float | None = None
    """At on-demand prices, which are never below spot prices."""
    sps: float | None = None
    """Agent steps per second of one run; None for a sum."""
    speed_basis: str = ""
    stands_for: str = ""
    """Pattern for which another pattern's figure was taken."""
    price_basis: str = ""

    @property
    def dollars(self) -> list[float] | None:
        """[low, high]; None where no price is known."""
        low, high = self.dollars_low, self.dollars_high
        return None if low is None or high is None else [low, high]


class Estimator:
    """Estimates runs on machines; reads tables, runs and catalog once."""

    def __init__(self, resources: Resources | None, processes: int = 1):
        """`resources` None: this machine, with so many processes a run."""
        self.resources, self.processes = resources, processes
        self.gpu = next(iter(gpu_names()), "") if resources is None and visible_gpus() else ""
        self.measured = measured_speeds()
        self.prices: dict[str, Price] = node_prices(resources) if resources else {}
        """Kind of GPU -> price of one node."""

    def estimate(self, spec: RunSpec) -> Estimate | None:
        """Hours and dollars of what is left of the run; None where no throughput is known."""
        resources = self.resources
        kinds, gpus, nodes = self._machines(spec)
        speeds = ((kind, self._speed(spec, kind, gpus, nodes)) for kind in kinds)
        found = next(((kind, speed) for kind, speed in speeds if speed), None)
        if found is None:
            return None
        kind, speed = found
        left = max(0, spec.agent_steps - reached(Run.named(spec.run)))
        hours = (left / speed.sps + speed.start_s * (left > 0)) / 3600
        if resources and resources.max_runtime_hours is not None:
            hours = min(hours, resources.max_runtime_hours)
        unpriced = Estimate(hours, sps=speed.sps, speed_basis=speed.basis, stands_for=speed.stands_for)
        if resources is None:
            return replace(unpriced, dollars_low=0.0, dollars_high=0.0)
        if (price := self.prices.get(kind)) is None:
            return unpriced
        low, high = (hours * dollars for dollars in price.per_hour(resources))
        return replace(unpriced, dollars_low=low, dollars_high=high, price_basis=price.source)

    def _machines(self, spec: RunSpec) -> tuple[list[str], int, int]:
        """(kinds, GPUs of a node, nodes) of the run."""
        if self.resources:
            return self.resources.kinds, self.resources.gpus, self.resources.nodes
        if self.gpu and spec.config.trainer.device != "cpu":
            return [table_name(self.gpu)], self.processes, 1
        return [cpu_name()], 0, 1

    def _speed(self, spec: RunSpec, kind: str, gpus: int, nodes: int) -> Speed | None:
        """The rate of the arm's own runs counts first; how long a run takes to start, only tables know."""
        expected = expected_speed(spec, kind, gpus, nodes)
        measured = measured_speed(spec, kind, gpus * nodes, self.measured)
        return replace(measured, start_s=expected.start_s) if measured and expected else measured or expected


def total(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """The sum; None if one of them is not known."""
    known = [one for one in estimates if one is not None]
    if len(known) < len(estimates):
        return None
    priced = [one.dollars for one in known if one.dollars]
    low, high = (sum(column) for column in zip(*priced, strict=True)) if len(priced) == len(known) else (None, None)
    return Estimate(
        sum(one.hours for one in known),
        low,
        high,
        speed_basis="; ".join(_bases(known)),
        price_basis="; ".join(dict.fromkeys(one.price_basis for one in known if one.price_basis)),
    )


def _bases(estimates: Sequence[Estimate]) -> Iterator[str]:
    """Every figure once, with the patterns that it stands for besides its own."""
    patterns: dict[str, dict[str, None]] = {}
    for one in estimates:
        patterns.setdefault(one.speed_basis, {})[one.stands_for] = None
    for basis, stands_for in patterns.items():
        others = " and ".join(pattern for pattern in stands_for if pattern)
        yield f"{basis}, in place of {others}" if others else basis
