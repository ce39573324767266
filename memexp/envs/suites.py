"""Evaluation suites: fixed settings of an environment on which every run is evaluated, whatever it trained on."""

from typing import Any

from memexp.config import Config


def _line(chain: int, sinks: int, room: str, terrain: str) -> dict[str, Any]:
    return {"chain_lengths": [chain], "num_sinks": [sinks], "room_sizes": [room], "terrains": [terrain]}


_LINES = (
    (2, 2, "medium", "no-terrain"), (2, 2, "medium", "balanced"),
    (3, 1, "medium", "no-terrain"), (3, 2, "medium", "no-terrain"),
    (4, 1, "medium", "dense"), (4, 1, "medium", "balanced"), (4, 2, "medium", "balanced"), (4, 2, "large", "balanced"),
    (5, 1, "medium", "no-terrain"), (5, 1, "medium", "balanced"), (5, 2, "medium", "balanced"),
    (5, 2, "large", "dense"),
)  # fmt: skip
"""(chain length, sinks, room, terrain) of the original evaluation of assembly_lines."""


def _maps(side: int, protocols: str) -> dict[str, Any]:
    return {"map_width": [side] * 2, "map_height": [side] * 2, "assembler_protocols": [protocols]}


_SIDES, _PROTOCOLS = (30, 65, 100), ("hard", "medium", "all")
SUITES: dict[str, dict[str, dict[str, Any]]] = {
    "assembly_lines": {"{2}_{0}chain_{1}sinks_{3}".format(*line): _line(*line) for line in _LINES},
    "cvc_random_maps": {f"{side}x{side}_{one}": _maps(side, one) for side in _SIDES for one in _PROTOCOLS},
}
"""Environment -> name of a setting -> knobs. The other knobs stay those of the run. We chose the settings of
cvc_random_maps: three map sizes, each with the three protocol variants that differ."""


def suite(config: Config) -> dict[str, Config]:
    """Name of a setting -> `config` with the knobs of that setting; empty if the environment has no suite."""
    name: str = config.name  # type: ignore[attr-defined]
    own = config.model_dump()
    return {label: type(config).parse({**own, **knobs}, label) for label, knobs in SUITES.get(name, {}).items()}
