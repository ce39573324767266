"""Draws docs/first_hearts.png: hearts deposited over training, one curve a setting of experiments/first_hearts.yaml.

python docs/figures/first_hearts.py LABEL=RUN_DIRECTORY ... [another.png]
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import numpy as np
from matplotlib import pyplot as plt

WINDOW = 150_000
"""Agent steps that a point is a mean over."""
COLORS = ("#8c959f", "#e69f00", "#0072b2", "#009e73", "#cc79a7")


def curve(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Agent steps and hearts deposited by an episode's agents, means over WINDOW weighted by episodes."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = np.array([(one["agent_steps"], one["episode/count"], one.get("env/hearts_deposited", 0.0)) for one in lines])
    window = rows[:, 0].astype(np.int64) // WINDOW
    groups = [rows[window == w] for w in np.unique(window)]
    groups = [group for group in groups if group[:, 1].sum() > 0 and 2 * len(group) > len(groups[0])]
    means = [(group[:, 1] * group[:, 2]).sum() / group[:, 1].sum() for group in groups]
    return np.array([group[-1, 0] for group in groups]), np.array(means)


def main() -> None:
    *pairs, last = sys.argv[1:]
    out = Path(last) if "=" not in last else Path(__file__).parents[1] / "first_hearts.png"
    pairs += [last] if "=" in last else []
    figure, ax = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    for color, (label, _, run) in zip(COLORS, (pair.partition("=") for pair in pairs), strict=False):
        steps, hearts = curve(Path(run))
        ax.plot(steps / 1e6, hearts, color=color, lw=2, label=label)
    ax.set_xlabel("million agent steps")
    ax.set_ylabel("hearts deposited an episode\n(four agents)")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(out, dpi=130)
    print(out)


if __name__ == "__main__":
    main()
