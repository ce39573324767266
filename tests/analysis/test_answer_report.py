"""The page and the pictures: self-contained, well-formed, complete."""

import re
import shlex
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.commands import type_command
from helpers.synthetic_runs import rising, write_matrix, write_run

from memexp.analysis.answer import Answer, answer_of
from memexp.analysis.answer_json import answer_json
from memexp.analysis.figures.files import save_figures
from memexp.analysis.figures.style import LONGEST, shortened, spread, styled
from memexp.analysis.formatting import file_names, hours_text, interval, number
from memexp.analysis.load import load
from memexp.analysis.report import write_report
from memexp.analysis.report.sections import spent_text
from memexp.formatting import short_count
from memexp.runs import find_runs

KINDS = ("learning", "finals", "effects", "profiles", "times")
"""Pictures that have something to show without a funnel."""
VOID = {"meta", "br", "img", "link", "input", "hr", "col"}


class Balanced(HTMLParser):
    """Refuses elements that are closed in the wrong order or never."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for key, value in attrs if key == "id" and value]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def judged(runs) -> Answer:
    environments, notes = load(runs, "test")
    return answer_of(environments, notes, "test")


def page_of(runs, folder):
    return write_report(judged(runs), folder / "report.html").read_text()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_matrix(folder, {"S": [0.9, 0.95, 0.92, 0.97], "S~": [0.5, 0.52, 0.49, 0.5]}, env="maze")
    write_matrix(folder, {"<X&Y>": [0.9, 0.95], "<X&Y>~": [0.5, 0.52]}, env="other", ceiling_return=None)
    return find_runs(folder)


@pytest.fixture(scope="module")
def both(runs):
    return judged(runs)


@pytest.fixture(scope="module")
def page(both, tmp_path_factory):
    return write_report(both, tmp_path_factory.mktemp("page") / "new" / "report.html").read_text()


def test_the_page_is_well_formed_self_contained_and_names_every_arm(both, page):
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "http" not in page
    assert not re.search(r"<(script|link|img|iframe)\b", page)
    assert not re.search(r"@import|url\((?!#)", page)
    for name, environment in answer_json(both)["environments"].items():
        assert name in parser.text
        assert environment["memory"]["reason"] in parser.text
        for arm in environment["arms"]:
            assert arm in parser.text
    assert "maze requires memory" in parser.text
    assert "<X" not in page


def test_the_figures_take_the_pages_colours_and_their_references_lead_somewhere(page):
    svgs = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.S))
    assert not re.search(r"#[0-9a-f]{6}", svgs)
    assert set(re.findall(r"var\((--[-\w]+)", svgs)) <= set(re.findall(r"(--[-\w]+):", page))
    assert "currentColor" in page
    assert page.count('role="img" aria-label="') == len(KINDS) * 2 - 1  # no time to solve where no ceiling is known
    references = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    parser = Balanced()
    parser.feed(page)
    assert references <= set(parser.ids)


def test_a_page_can_be_written_about_runs_that_have_nothing_to_show(tmp_path):
    run = write_run(tmp_path, "S", 0, [], status=None)
    assert "undecided" in page_of([run], tmp_path)
    write_run(tmp_path, "S~", 0, np.full(30, np.nan), name="nan", random_return=None, ceiling_return=None)
    both = judged(find_runs(tmp_path))
    assert write_report(both, tmp_path / "report.html").exists()
    assert all(file.stat().st_size > 1000 for file in save_figures(both, tmp_path / "figures"))


@pytest.mark.parametrize("arms", [{"S": [1.0]}, {"S": [1.0], "S~": [0.5]}], ids=["a single run", "one seed an arm"])
def test_a_page_can_be_written_about_a_single_seed_and_decides_nothing(arms, tmp_path):
    runs = write_matrix(tmp_path, arms)
    both = judged(runs)
    (environment,) = answer_json(both)["environments"].values()
    assert environment["memory"]["verdict"] == "undecided"
    assert all(arm["learning"]["verdict"] == "undecided" for arm in environment["arms"].values())
    assert "undecided" in write_report(both, tmp_path / "report.html").read_text()


@pytest.mark.filterwarnings("error")
def test_a_run_of_a_single_update_that_overshoots_the_budget_is_reported_without_a_warning(tmp_path):
    runs = [write_run(tmp_path, "S", 0, [0.3], budget=1000, reached=2.0)]
    assert page_of(runs, tmp_path)


def test_names_are_text_whatever_they_contain(tmp_path):
    names = ["$\\frac$", "<script>alert(1)</script>", "{{ matrix }}"]
    runs = [write_run(tmp_path, name, 0, rising(0.9), env=names[1], name=f"r{i}") for i, name in enumerate(names)]
    page = page_of(runs, tmp_path)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "<script" not in page
    assert all(name in parser.text for name in names)
    save_figures(judged(runs), tmp_path / "figures")


def test_the_command_to_reproduce_can_be_pasted_into_a_shell(tmp_path):
    run = write_run(tmp_path, "S", 0, rising(0.9))
    argv = ["memexp", "train", "tmaze", 'pattern=["S", "X"]', "labels.arm=$HOME's"]
    run.write_provenance({"argv": argv})
    parser = Balanced()
    parser.feed(page_of([run], tmp_path))
    (line,) = [line for line in parser.text.splitlines() if "# one run" in line]
    assert shlex.split(line, comments=True) == argv


def test_unfinished_runs_are_drawn(tmp_path):
    runs = [write_run(tmp_path, "S", seed, rising(0.9), name=f"r{seed}", reached=0.4, status=None) for seed in range(2)]
    page = page_of(runs, tmp_path)
    assert "2 unfinished" in page
    assert page.count("stroke-dasharray") >= 2


def test_every_picture_is_written_as_png_and_as_svg(both, tmp_path):
    files = save_figures(both, tmp_path / "pictures")
    names = ["answer", *(f"{env}-{kind}" for env in ("maze", "other") for kind in KINDS)][:-1]  # of other: no ceiling
    assert [file.name for file in files] == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG" if file.suffix == ".png" else b"<?xml")


def test_labels_keep_their_order_and_distance_inside_the_picture():
    assert spread([0.5, 0.5, 0.5], 0.1, 0, 1) == pytest.approx([0.4, 0.5, 0.6])
    assert spread([0.0, 0.01, 0.9], 0.1, 0, 1) == pytest.approx([0.0, 0.1, 0.9])
    assert spread([0.99, 1.0], 0.1, 0, 1) == pytest.approx([0.9, 1.0])


def test_counts_and_durations_are_written_as_people_say_them():
    assert [short_count(n) for n in (0, 950, 96_000, 1_500_000, 2e9)] == ["0", "950", "96k", "1.5m", "2b"]
    assert [hours_text(h) for h in (None, 0.005, 0.2, 3.44)] == ["–", "18s", "12m00s", "3h26m"]


def test_environments_whose_names_differ_in_signs_alone_keep_their_own_pictures():
    names = file_names(["a/b", "a b", "环", "境", "a-b-2"])
    assert names["a/b"] == "a-b"
    assert len(set(names.values())) == 5


def test_small_effects_have_no_negative_zero():
    assert number(-0.004) == "+0.00"
    assert interval((-0.001, 0.5)) == "[+0.00, +0.50]"


def test_a_long_name_is_shortened_in_pictures_and_whole_in_the_page(tmp_path):
    page = page_of(write_matrix(tmp_path, {"xl" * 20: [0.9] * 4, "xl" * 20 + "~": [0.5] * 4}), tmp_path)
    assert "xl" * 20 in page
    assert len(shortened("xl" * 20)) == LONGEST
    svgs = "".join(re.findall(r"<svg viewBox.*?</svg>", page, flags=re.S))
    drawn = [text for text in re.findall(r">([^<>]+)<", svgs) if "xl" in text]
    assert drawn
    assert not [text for text in drawn if "xl" * 20 in text]


def spent_on(folder):
    (one,) = judged(find_runs(folder)).environments.values()
    return spent_text(list(one.environment.arms.values()))


def test_dollars_are_a_lower_bound_where_the_price_of_some_arms_is_not_known(tmp_path):
    write_matrix(tmp_path, {"S": [0.9]}, price_per_hour=36.0)
    assert spent_on(tmp_path) == "1m40s, $1.00"
    write_matrix(tmp_path, {"S~": [0.9]})
    assert spent_on(tmp_path) == "3m20s, at least $1.00"


def test_an_architecture_has_one_colour_in_all_environments(tmp_path):
    for env, arm in (("first", "S"), ("first", "X"), ("second", "X")):
        write_run(tmp_path, arm, 0, rising(0.9), env=env)
    environments, _ = load(find_runs(tmp_path), "test")
    colors = {(name, arm.name): color for name, one in environments.items() for arm, color, _ in styled(one)}
    assert colors["first", "X"] == colors["second", "X"] != colors["first", "S"]


@pytest.mark.parametrize(
    ("seeds", "learned", "converged"),
    [
        (1, "0 of 2 arms judged: 1 seed, needs 4", "0 of 2 arms judged: 1 seed, needs 4"),
        (3, "0 of 2 arms judged: 3 seeds, needs 4", "0 of 2 arms judged: 3 seeds, needs 4"),
        (5, "1 of 2 arms", "1 of 2 arms, 1 undecided"),
    ],
)
def test_the_terminal_says_why_arms_are_not_judged(tmp_path, capsys, seeds, learned, converged, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    some = [0.9, 0.95, 0.92, 0.97, 0.9][:seeds]
    write_matrix(tmp_path, {"S": some, "S~": [0.01 * one for one in some]})
    row = next(line for line in type_command(capsys, "report", str(tmp_path)).out.splitlines() if "world" in line)
    assert [cell.strip() for cell in row.split("  ") if cell.strip()][-2:] == [learned, converged]
