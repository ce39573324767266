"""The pictures as files for papers and slides: PNG and SVG on a white background."""
# Matplotlib gives no types for its keyword arguments.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from memexp.analysis.answer import Answer, EnvironmentAnswer
from memexp.analysis.figures import PICTURES
from memexp.analysis.figures.curves import LEARNING
from memexp.analysis.figures.style import STYLE, figure_of, shortened
from memexp.analysis.formatting import file_names, title_of

OVERVIEW_COLUMNS = 3


def save_figures(answer: Answer, folder: Path) -> list[Path]:
    """Write an overview (`answer`) and the pictures of each environment as .png and .svg, and return the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "memexp", "svg.fonttype": "path"}):
        files += _save(overview(list(answer.environments.values())), folder / "answer")
        stems = file_names(answer.environments)
        for name, one in answer.environments.items():
            for picture in PICTURES:
                if picture.shown(one):
                    figure = figure_of(picture, one, top=0.3)
                    figure.text(0.02, 0.98, f"{shortened(name)}: {picture.title.lower()}", va="top", fontweight="bold")
                    files += _save(figure, folder / f"{stems[name]}-{picture.name}")
    return files


def overview(answers: Sequence[EnvironmentAnswer]) -> Figure:
    """Learning curves of all environments side by side."""
    columns = min(len(answers), OVERVIEW_COLUMNS)
    rows = -(-len(answers) // columns)
    sizes = [LEARNING.size(one.environment) for one in answers]
    room, height = max(size.right for size in sizes), max(size.height for size in sizes)
    cell = sizes[0].left + 3.4 + room, height + 1.05
    width, total = columns * cell[0], rows * cell[1] + 0.2
    figure = Figure(figsize=(width, total), facecolor="white")
    for place, one in enumerate(answers):
        left, up = place % columns * cell[0] + sizes[0].left, total - place // columns * cell[1] - 0.45 - height
        ax = figure.add_axes((left / width, up / total, 3.4 / width, height / total))
        LEARNING.draw(ax, one)
        title = title_of(shortened(one.environment.name), one.memory.verdict.kind)
        ax.set_title(title, fontsize=15, fontweight="bold", pad=12)
    figure.text(0.01, 0.02, "dashed, ~ : the same network with its memory ablated", fontsize=10)
    return figure


def _save(figure: Figure, stem: Path) -> list[Path]:
    files = [stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")]
    figure.savefig(files[0], dpi=150, facecolor="white")
    figure.savefig(files[1], metadata={"Date": None}, facecolor="white")
    return files
