"""Dollars per hour of a node: from SkyPilot's catalog if it can be read, else from the package's table."""

import importlib.util
import os
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from memexp.config import read_yaml
from memexp.launch.plan.resources import Resources

TABLE = Path(__file__).with_name("prices.yaml")
CATALOG_HOST = "raw.githubusercontent.com"
CLOUDS = ("aws", "gcp", "azure", "lambda", "nebius", "runpod")
"""Clouds whose catalogs are read: those that SkyPilot has fetched, or can fetch."""
PROBE_S = 1.0
"""Seconds that the catalog's host has to answer; after that the package's table is used."""


@dataclass(frozen=True)
class Price:
    """Dollars per hour of one node."""

    on_demand: float
    spot: float
    source: str

    def by_market(self, resources: Resources) -> dict[str, float]:
        """Market -> dollars per hour of one node, for the markets in which the run may be placed."""
        markets = {"spot": self.spot} if resources.uses_spot else {}
        return markets | ({} if resources.spot else {"on_demand": self.on_demand})

    def per_hour(self, resources: Resources) -> tuple[float, float]:
        """Dollars per hour of all nodes of a run: at spot prices where spot is allowed, and on demand."""
        low = self.spot if resources.uses_spot else self.on_demand
        return low * resources.nodes, self.on_demand * resources.nodes


@cache
def table() -> dict[str, Any]:
    return read_yaml(TABLE)


def table_price(kind: str, gpus: int) -> Price | None:
    """The package's price of a node of `gpus` GPUs of a kind; None where it has none."""
    prices = table()

    def per_node(by_gpus: dict[int, float]) -> float:
        size = max((size for size in by_gpus if size <= gpus), default=min(by_gpus))
        return by_gpus[size] * gpus / size

    if kind not in prices["on_demand"]:
        return None
    on_demand = per_node(prices["on_demand"][kind])
    share = prices["spot"]["L4"][8] / prices["on_demand"]["L4"][8]
    spot = per_node(prices["spot"][kind]) if gpus in prices["spot"].get(kind, {}) else on_demand * share
    return Price(on_demand, spot, f"table of {prices['date']}, {prices['source']}")


@cache
def _catalog_price(kind: str, gpus: int, clouds: tuple[str, ...]) -> Price | None:
    """The cheapest price in SkyPilot's catalog; None if there is none, or the catalog cannot be read."""
    if not clouds:
        return None
    from sky import catalog

    try:
        found = catalog.list_accelerators(
            name_filter=f"^{kind}$", quantity_filter=gpus, clouds=list(clouds), case_sensitive=False
        )
    except Exception:  # the network's errors, and those of a damaged file
        return None
    offers = [offer for offers in found.values() for offer in offers]
    on_demand = [offer.price for offer in offers if offer.price > 0]
    spot = [offer.spot_price for offer in offers if offer.spot_price > 0]
    if not on_demand:
        return None
    return Price(min(on_demand), min(spot, default=min(on_demand)), f"SkyPilot's catalog of {', '.join(clouds)}")


def _readable_clouds(resources: Resources) -> tuple[str, ...]:
    """The clouds whose catalog can be read now, among those where the run may be placed."""
    places = [place.partition("/")[0].lower() for place in resources.places if place]
    wanted = [cloud for cloud in CLOUDS if not places or cloud in places]
    folder = Path(os.environ.get("SKY_RUNTIME_DIR") or Path.home()) / ".sky" / "catalogs"
    cached = {file.parent.name for file in folder.glob("v*/*/vms.csv")}
    fetched = tuple(cloud for cloud in wanted if cloud in cached)
    if fetched or not wanted:
        return fetched
    return tuple(wanted[:2]) if _reachable(CATALOG_HOST) else ()


@cache
def _reachable(host: str) -> bool:
    """True if a host answers within PROBE_S. A thread of its own, because a silent name server has no time-out."""
    answered: list[bool] = []

    def probe() -> None:
        with suppress(OSError):
            socket.create_connection((host, 443), timeout=PROBE_S).close()
            answered.append(True)

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_S)
    return bool(answered)


def node_prices(resources: Resources) -> dict[str, Price]:
    """Kind of GPU -> price of one node, for the kinds whose price is known.

    The user's own machines (slurm, k8s, ssh) have no price. With MEMEXP_PRICES_FROM=table the catalog is not read.
    """
    if not resources.gpus or resources.is_own:
        return {}
    catalog = os.environ.get("MEMEXP_PRICES_FROM") != "table" and importlib.util.find_spec("sky") is not None
    clouds = _readable_clouds(resources) if catalog else ()
    found = {
        kind: _catalog_price(kind, resources.gpus, clouds) or table_price(kind, resources.gpus)
        for kind in resources.accelerators
    }
    return {kind: price for kind, price in found.items() if price}
