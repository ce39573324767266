"""Measures the table of memexp/analysis/knobs/measured.json: the random policy's funnel under settings of knobs.

What the answer predicts of a knob comes from this table; measure it again whenever the games' rules change.
Usage: python benchmarks/knobs.py [--episodes 200] [--out measured.json]   (a quarter of an hour on one unused core)
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from memexp.config import override
from memexp.envs.config import ENVIRONMENTS
from memexp.ppo.evaluate import reference

OUT = Path(__file__).parents[1] / "memexp" / "analysis" / "knobs" / "measured.json"
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "cvc_random_maps": [
        {},
        {"initial_inventory_buckets": True},
        {"initial_inventory_buckets": True, "initial_hearts": 0},
        {"initial_inventory_buckets": True, "initial_resources": [0, 30, 75], "initial_hearts": [0, 1]},
        {"map_width": 30, "map_height": 30},
        {"extractor_max_uses": 0},
        {"assembler_protocols": "hard"},
        {"num_vibes": 12},
        {"num_cogs": 4},
        {"resource_buckets": True, "resource_rewards": 0.01},
        {"heart_buckets": True},
        {"num_vibes": 152},
    ],
    "assembly_lines": [
        {},
        {"num_vibes": 0},
        {"room_sizes": "tiny"},
        {"chain_lengths": 1},
        {"num_sinks": 0},
        {"curriculum_style": "level_0"},
        {"curriculum_style": "tiny"},
        {"curriculum_style": "level_0", "num_vibes": 0},
        {"curriculum_style": "tiny", "num_vibes": 0},
        {"room_sizes": "tiny", "num_vibes": 0},
        {"chain_lengths": 1, "num_vibes": 0},
        {"curriculum_style": "full"},
        {"curriculum_style": "full", "num_vibes": 0},
    ],
}
"""Environment -> settings of knobs, the rest as in the environment's defaults."""


def measure(env: str, knobs: dict[str, Any], episodes: int) -> dict[str, Any]:
    """One row of the table."""
    default = ENVIRONMENTS[env]()
    world = override(default, {key: value if isinstance(value, list) else str(value) for key, value in knobs.items()})
    found = reference(world, "random", episodes, 0)
    turned = {key: value for key, value in found.knobs.items() if value != getattr(default, key)}
    rounded = {name: round(share, 6) for name, share in found.funnel.items()}
    mean, stderr = round(found.mean, 6), round(found.stderr, 6)
    return {"env": env, "knobs": turned, "mean": mean, "stderr": stderr, "funnel": rounded}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    jobs = [(env, knobs) for env, settings in SETTINGS.items() for knobs in settings]
    rows, start = [], time.monotonic()
    for number, (env, knobs) in enumerate(jobs, 1):
        rows.append(measure(env, knobs, options.episodes))
        left = (time.monotonic() - start) / number * (len(jobs) - number)
        print(f"{number} of {len(jobs)}, {left:.0f} s left: {env} {knobs}: {rows[-1]['mean']:.3g}", file=sys.stderr)
    table = {"player": "random", "episodes": options.episodes, "seed": 0, "date": time.strftime("%Y-%m-%d")}
    table["defaults"] = {env: ENVIRONMENTS[env]().model_dump(exclude={"name"}) for env in SETTINGS}
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    head = json.dumps(table)[1:-1]
    options.out.write_text(f'{{{head}, "rows": [\n  {lines}\n]}}\n')
    print(options.out)


if __name__ == "__main__":
    main()
