"""Draws docs/funnel.svg, how far players come in cvc_random_maps, from what `memexp funnel ... --json` prints.

memexp funnel cvc_random_maps --player random --player memoryless --player memory --player full --json > levels.json
python docs/figures/funnel.py levels.json [another file, .svg or .png]
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt

MEANINGS = {
    "moved": "left its first cell",
    "all_four": "held all four resources",
    "heart_affordable": "held enough for a heart",
    "heart_a_at_assembler": "showed heart_a at an assembler",
    "heart_made": "got a heart",
    "heart_b_at_chest": "showed heart_b at a chest",
    "heart_deposited": "deposited a heart: reward",
}
"""Milestone -> words for it; the others are called by their names."""
PLAYERS = {
    "random": ("random policy", "o", "#8c959f"),
    "memoryless": ("scripted, no memory", "s", "#e69f00"),
    "memory": ("scripted, with memory", "D", "#0072b2"),
    "full": ("scripted, sees everything", "^", "#009e73"),
}


def main() -> None:
    levels = json.loads(Path(sys.argv[1]).read_text())
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parents[1] / "funnel.svg"
    milestones = list(levels[0]["funnel"])
    plt.rcParams.update({"font.size": 10, "svg.hashsalt": "funnel", "font.family": "DejaVu Sans"})
    figure, ax = plt.subplots(figsize=(8.8, 4.4), layout="constrained")
    rows = range(len(milestones), 0, -1)
    for one in levels:
        label, marker, color = PLAYERS[one["player"]]
        shares = [100 * one["funnel"][name] for name in milestones]
        label += f": return {one['mean']:.2g}"
        ax.plot(shares, rows, marker=marker, color=color, label=label, lw=1.2, ms=6, alpha=0.9, clip_on=False, zorder=3)
    ax.set_yticks(list(rows), [MEANINGS.get(name, f"gained {name}") for name in milestones])
    ax.set_xlim(0, 100)
    ax.set_xlabel("agents that got there in an episode, %")
    ax.grid(axis="x", color="#d8dee4", lw=0.8)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    first = levels[0]
    ax.set_title(f"{first['env']}, {first['episodes']} episodes a player", loc="left", fontsize=11, weight="bold")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    print(out)


if __name__ == "__main__":
    main()
