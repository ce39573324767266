"""The pictures as files for papers and slides: PNG and SVG, on white."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from memexp.analysis.figures import PICTURES
from memexp.analysis.figures.learning import LEARNING
from memexp.analysis.figures.style import STYLE, figure_of, shortened
from memexp.analysis.formatting import file_names, title_of
from memexp.analysis.seeds import Environment

OVERVIEW_COLUMNS = 3


def save_figures(environments: dict[str, Environment], answer: dict[str, Any], folder: Path) -> list[Path]:
    """Write answer.png and answer.svg (learning curves of all environments side by side, verdicts as titles), and
    <environment>-<picture>.png and .svg for every picture that has something to show. Returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "memexp", "svg.fonttype": "path"}):
        files += _save(overview(list(environments.values()), answer), folder / "answer")
        stems = file_names(environments)
        for name, environment in environments.items():
            judged = answer["environments"][name]
            for picture in PICTURES:
                if picture.shown(environment, judged):
                    figure = figure_of(picture, environment, judged, top=0.3)
                    figure.text(0.02, 0.98, f"{shortened(name)}: {picture.title.lower()}", va="top", fontweight="bold")
                    files += _save(figure, folder / f"{stems[name]}-{picture.name}")
    return files


def overview(environments: Sequence[Environment], answer: dict[str, Any]) -> Figure:
    """Learning curves of all environments side by side."""
    columns = min(len(environments), OVERVIEW_COLUMNS)
    rows = -(-len(environments) // columns)
    sizes = [LEARNING.size(environment) for environment in environments]
    room, height = max(size.right for size in sizes), max(size.height for size in sizes)
    cell = sizes[0].left + 3.4 + room, height + 1.05
    width, total = columns * cell[0], rows * cell[1] + 0.2
    figure = Figure(figsize=(width, total), facecolor="white")
    for place, environment in enumerate(environments):
        left, up = place % columns * cell[0] + sizes[0].left, total - place // columns * cell[1] - 0.45 - height
        ax = figure.add_axes((left / width, up / total, 3.4 / width, height / total))
        judged = answer["environments"][environment.name]
        LEARNING.draw(ax, environment, judged)
        ax.set_title(title_of(shortened(environment.name), judged), fontsize=15, fontweight="bold", pad=12)
    figure.text(0.01, 0.02, "dashed, ~ : the same network with its memory ablated", fontsize=10)
    return figure


def _save(figure: Figure, stem: Path) -> list[Path]:
    files = [stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")]
    figure.savefig(files[0], dpi=150, facecolor="white")
    figure.savefig(files[1], metadata={"Date": None}, facecolor="white")
    return files
