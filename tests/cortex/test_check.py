"""`memexp check` passes every cell that keeps its promises, and says where a wrong one breaks which."""

import json
import re
from pathlib import Path

import pytest
from helpers.commands import type_command

from memexp.cortex.check import CHECKS, check_cell
from memexp.pattern import TOKENS

RIGHT = ("GRU", "Leaky", "Nested", "LooksAtItsData", "Wide")
STEPS, PIECES, RESETS, ROWS, OFF, CALLS, TYPES, REACH, DERIVATIVES = CHECKS
MADE = "it can be made and called"
WRONG = {
    "IgnoresResets": (RESETS, 0, "step 0: y after a reset at step 0, in one call, differs by 0."),
    "ResetsOneStepLate": (RESETS, 0, "differs by"),
    "StepIsNoSequence": (STEPS, 0, "step 0: y differs by 0.00"),
    "StateIsLost": (STEPS, 11, "step 11: the last state differs by"),
    "MixesRows": (ROWS, 0, "step 0: y of two rows without the others differs by 0."),
    "ReadsNoneAsFresh": (OFF, 1, "step 1: y with memory off differs by 0."),
    "KeepsItself": (CALLS, 0, "step 0: y of the same call, made again, differs by"),
    "WritesIntoItsState": (CALLS, None, "a call changes the state that it is given"),
    "ForgetsDtype": (TYPES, None, "init_state returns its state as torch.float32, not as torch.float64"),
    "ForgetsDevice": (TYPES, None, "init_state returns its state on cpu, not on meta"),
    "CutsGradients": (REACH, 1, "gets no gradient from any earlier step"),
    "WrongGradient": (DERIVATIVES, 0, "step 0: the gradient of x is off by"),
    "NoMemory": (REACH, 1, "y depends on no earlier step"),
    "NotFinite": (MADE, None, "it returns numbers that are not finite (NaN or infinity)"),
    "ReturnsDouble": (MADE, None, "forward returns state as torch.float64 [5, 16], but it was given torch.float32"),
    "ReturnsOtherShape": (MADE, None, "forward returns y as torch.float32 [5, 12, 15]; x is torch.float32 [5, 12, 16]"),
    "ReturnsNoState": (MADE, None, "forward returns a Tensor, not (y, state)"),
    "GrowingState": (MADE, None, "a state with the parts state[0], state[1]; the first one had state"),
    "Raises": (MADE, None, "RuntimeError: out of ideas (/"),
    "StateIsANumber": (MADE, None, "init_state returns state as a int: a state is a tensor, or a tuple, list or dict"),
    "StateOfNumpy": (MADE, None, "init_state returns state['h'] as a ndarray"),
    "RowsComeSecond": (MADE, None, "[1, 7, 16] for 7 rows: rows come first, [batch, ...]"),
    "NeedsMore": (MADE, None, "missing 1 required positional argument: 'depth'"),
    "UnknownBlock": (MADE, None, "block = 'PostUp' is none; did you mean 'PostUpGated'?"),
    "NoModule": (MADE, None, "is a NoModule, not a torch.nn.Module"),
    "NoMethods": (MADE, None, "NoMethods has no method init_state"),
}
"""Cell -> the check that is about its fault, the step, and what is said."""


@pytest.mark.parametrize("cell", [*TOKENS, *(f"helpers.own_cells:{name}" for name in RIGHT)])
def test_a_right_cell_passes(cell):
    assert [one for one in check_cell(cell, 8 if cell != "Ag" else 16).findings if not one.ok] == []


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_cell_fails_the_check_that_is_about_it(name):
    check, step, why = WRONG[name]
    report = check_cell(f"helpers.own_cells:{name}", 16)
    found = next(one for one in report.findings if one.check == check)
    assert not report.ok
    assert why in found.why
    assert "\n" not in found.why
    assert found.step == step


def test_gradients_say_how_far_back_they_reach():
    notes = {cell: check_cell(cell, 8).findings[1 + list(CHECKS).index(REACH)].note for cell in ("X", "C", "L")}
    assert notes == {"X": "4 of 11 steps back", "C": "3 of 11 steps back", "L": "11 of 11 steps back"}


def test_the_command_prints_a_line_a_check_and_ends_with_1_if_one_fails(capsys):
    right = type_command(capsys, "check", "helpers.own_cells:Leaky", "--d-hidden", "8")
    assert right.code == 0
    assert right.out.count("\n") == len(CHECKS) + 2
    assert "ok: helpers.own_cells:Leaky with 8 features: all checks passed" in right.out
    wrong = type_command(capsys, "check", "helpers.own_cells:NoMemory", "--d-hidden", "8", "--json")
    assert wrong.code == 1
    assert [one["check"] for one in json.loads(wrong.out)["checks"] if not one["ok"]] == [REACH]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("helpers.own_cells:Lekay", "has no 'Lekay'; did you mean 'Leaky'?"),
        ("helpers.owncells:Leaky", "there is no module 'helpers.owncells'"),
        ("os:system", "'os' belongs to Python itself, which has no cells"),
        ("helpers.own_cells:torch", "has no 'torch'"),
        ("Q", "no token at 'Q'"),
        ("AgS", "has 2 cells: check one at a time"),
    ],
)
def test_what_is_no_cell_is_wrong_usage(cell, words, capsys):
    typed = type_command(capsys, "check", cell)
    assert typed.code == 2
    assert words in typed.err
    assert typed.err.count("\n") == 1


MIXED = """
from functools import partial
from pathlib import Path
import torch
from torch import Tensor, nn
from helpers.own_cells import Leaky
def helper(x): return x
def make(width): return Leaky(width)
class Mine(Leaky): ...
class Layer(nn.Module): ...
class _Hidden(Leaky): ...
"""


@pytest.mark.parametrize(
    "word", ["mixed_cells", "mixed_cells.py", "mixed_cells:", "mixed_cells:Zzz", "no_cells", "S,no_cells"]
)
def test_only_what_can_be_a_cell_is_offered(tmp_path, monkeypatch, capsys, word):
    (tmp_path / "mixed_cells.py").write_text(MIXED)
    (tmp_path / "no_cells.py").write_text("def helper(x): return x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("memexp.project.ProjectFinder.folders", [str(tmp_path)])
    typed = type_command(capsys, "check", word)
    assert (typed.code, typed.err.count("\n")) == (2, 1)
    if word.startswith("mixed"):
        names = "Leaky, Mine" if word.endswith("Zzz") else "mixed_cells:Leaky, mixed_cells:Mine"
        assert typed.err.endswith(f"; known: {names}\n")
    else:
        assert "'no_cells' is a module; write no_cells:CLASS for a cell in it" in typed.err


def test_the_cell_of_the_page_passes_and_without_its_line_about_resets_it_fails(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "your-cell.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    line = "            h = torch.where(resets[:, t, None], 0, h)\n"
    assert line in code
    (tmp_path / "cells_of_the_page.py").write_text(code)
    (tmp_path / "cells_of_nobody.py").write_text(code.replace(line, ""))
    monkeypatch.setattr("memexp.project.ProjectFinder.folders", [str(tmp_path)])
    report = check_cell("cells_of_the_page:MinGRU")
    assert report.ok
    told = [(one.check, one.note) for one in report.findings if one.note]
    assert all(re.search(rf"^ok +{check} +{note}$", page, flags=re.MULTILINE) for check, note in told)
    wrong = [one for one in check_cell("cells_of_nobody:MinGRU").findings if not one.ok]
    assert [one.check for one in wrong] == [RESETS]
    assert wrong[0].why in page
