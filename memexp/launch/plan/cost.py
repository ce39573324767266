"""What a launch takes before anything runs: hours, dollars and agent steps per second, from measured figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from memexp.launch.plan.prices import Price, node_prices
from memexp.launch.plan.resources import Resources
from memexp.launch.plan.run_spec import RunSpec
from memexp.launch.plan.throughput import Arm, Speed, cpu_name, expected_speed, measured_speed, measured_speeds
from memexp.runs import Run
from memexp.runs.status import reached


@dataclass(frozen=True)
class Estimate:
    """What is left of one run, or the sum over runs."""

    hours: float
    dollars_low: float | None
    """At spot prices where spot is allowed, without an interruption; None where no price is known."""
    dollars_high: float | None
    """At on-demand prices: no spot price is above."""
    sps: float | None = None
    """Agent steps per second of one run; None for a sum."""
    speed_basis: str = ""
    stands_for: str = ""
    price_basis: str = ""


class Estimator:
    """Estimates cells on machines; asks tables, runs and catalog once."""

    def __init__(self, resources: Resources | None):
        """`resources` None: this machine."""
        self.resources = resources
        self.measured: dict[Arm, list[tuple[str, Speed]]] = measured_speeds()
        self.prices: dict[str, Price] = node_prices(resources) if resources else {}

    def estimate(self, cell: RunSpec) -> Estimate | None:
        """Hours and dollars of what is left of the cell's run; None where no throughput is known."""
        found = self._speed(cell)
        if found is None:
            return None
        kind, speed = found
        hours = max(0, cell.agent_steps - reached(Run.named(cell.run))) / speed.sps / 3600
        if self.resources is None:
            return Estimate(hours, 0.0, 0.0, speed.sps, speed.basis, speed.stands_for)
        if self.resources.max_runtime_hours is not None:
            hours = min(hours, self.resources.max_runtime_hours)
        if (price := self.prices.get(kind)) is None:
            return Estimate(hours, None, None, speed.sps, speed.basis, speed.stands_for)
        low, high = (hours * dollars for dollars in price_range(price, self.resources))
        return Estimate(hours, low, high, speed.sps, speed.basis, speed.stands_for, price.source)

    def _speed(self, cell: RunSpec) -> tuple[str, Speed] | None:
        """The first kind of machine that a throughput is known for, and the throughput."""
        if self.resources is None:
            kind = cpu_name()
            speed = measured_speed(cell, kind, 0, self.measured) or expected_speed(cell, kind, 0)
            return (kind, speed) if speed else None
        gpus, nodes = self.resources.gpus, self.resources.nodes
        for kind in self.resources.accelerators if gpus else []:
            speed = measured_speed(cell, kind, gpus * nodes, self.measured) or expected_speed(cell, kind, gpus, nodes)
            if speed:
                return kind, speed
        return None


def price_range(price: Price, resources: Resources) -> tuple[float, float]:
    """Dollars per hour of one run's machines: at spot prices where spot is allowed, and on demand."""
    low = price.spot if resources.uses_spot else price.on_demand
    return low * resources.nodes, price.on_demand * resources.nodes


def total(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """The sum; None if one is not known."""
    known = [one for one in estimates if one is not None]
    if len(known) < len(estimates):
        return None
    lows, highs = [one.dollars_low for one in known], [one.dollars_high for one in known]
    return Estimate(
        sum(one.hours for one in known),
        None if None in lows else sum(low for low in lows if low is not None),
        None if None in highs else sum(high for high in highs if high is not None),
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
