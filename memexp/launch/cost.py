"""What a launch takes, in hours and dollars, before anything runs: an estimate from measured figures.

The figures are one user's, measured on cvc_random_maps with AgSA (3 layers, d_hidden 128), agent steps per second;
X without memory was faster (4 layers: 390k steps/s on 8 L4). Other sizes and other worlds take another time.
"""

from dataclasses import dataclass

from memexp.launch.cell import Cell
from memexp.launch.resources import Resources

SOURCE = "estimated from cvc_random_maps on L4 GPUs: AgSA 258k, memoryless X 390k agent steps/s on 8x L4"
L4_STEPS_PER_SECOND = {1: 32e3, 4: 131e3, 8: 258e3}
"""GPUs of a node -> agent steps per second with AgSA."""
L4_DOLLARS_PER_HOUR = {1: 1.0, 4: 5.0, 8: 10.0}
"""GPUs of a node -> dollars an hour on demand."""
MEMORYLESS_SPEEDUP = 390 / 258
SPOT_SHARE = 0.3
"""Share of the on-demand price that spot instances cost: $3 of $10 for 8 L4."""


@dataclass(frozen=True)
class Estimate:
    """Hours and dollars of one run, or the sum over runs."""

    hours: float
    dollars_low: float
    """At usual spot prices where spot is allowed, without an interruption."""
    dollars_high: float
    """At on-demand prices: no spot price is above."""


def estimate(cell: Cell, resources: Resources) -> Estimate | None:
    """Hours and dollars of one run; None for CPU machines, of which no figure is known."""
    if not resources.gpus:
        return None
    speed = _per_node(L4_STEPS_PER_SECOND, resources.gpus) * resources.nodes
    if cell.config.cortex.pattern == "X" and cell.config.cortex.mem_len == 0:
        speed *= MEMORYLESS_SPEEDUP
    hours = cell.agent_steps / speed / 3600
    if resources.max_runtime_hours is not None:
        hours = min(hours, resources.max_runtime_hours)
    low, high = price_range(resources)
    return Estimate(hours, hours * low, hours * high)


def price_range(resources: Resources) -> tuple[float, float]:
    """Dollars per hour of one run's machines: at usual spot prices where spot is allowed, and on demand."""
    on_demand = _per_node(L4_DOLLARS_PER_HOUR, resources.gpus) * resources.nodes
    return on_demand * SPOT_SHARE if resources.uses_spot else on_demand, on_demand


def total(estimates: list[Estimate | None]) -> Estimate | None:
    """The sum; None if one is not known."""
    known = [one for one in estimates if one is not None]
    if len(known) < len(estimates):
        return None
    return Estimate(*(sum(getattr(one, key) for one in known) for key in ("hours", "dollars_low", "dollars_high")))


def _per_node(table: dict[int, float], gpus: int) -> float:
    """The figure for a node of `gpus` GPUs: from the table, else in proportion to its nearest smaller entry."""
    known = max(size for size in table if size <= gpus)
    return table[known] * gpus / known
