"""`memexp check CELL`: does a memory cell keep what memexp relies on?

The cell gets noise on every parameter, so that nothing is hidden by an initial zero, and plays random sequences in
which episodes begin anywhere. Sizes are relative to the largest number that is compared, where that is above 1.
"""

import copy
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memexp.config import UsageError
from memexp.console import say
from memexp.cortex.blocks import PreUpGated
from memexp.cortex.cells.shared import State
from memexp.cortex.own import own_class
from memexp.cortex.stack import Options, build_block
from memexp.modules import offered, one_line, where_raised
from memexp.pattern import TOKENS, parse_pattern
from memexp.project import import_named, module_in

ROWS, STEPS, STARTS = 5, 12, 0.2
"""Rows and steps of a sequence, and the share of steps that start an episode."""
TOLERANCE, HALF_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 3e-2, 1e-5
"""Largest difference in single precision, under autocast to bf16, and of a gradient in double precision."""
EPSILONS = (1e-5, 1e-6)
"""Half the distance of two values whose difference gives a derivative. The smaller error of both counts: one may lie
across the kink of a ReLU."""


@dataclass
class Finding:
    """The outcome of one check. `why` says what differs, and where; empty if nothing does."""

    check: str
    size: float = 0.0
    """The largest difference found."""
    step: int | None = None
    """The first step at which one is too large."""
    why: str = ""
    note: str = ""

    @property
    def ok(self) -> bool:
        return not self.why

    def fail(self, why: str, step: int | None = None) -> None:
        if self.ok:
            self.why, self.step = why, step

    def compare(self, found: Tensor, expected: Tensor, what: str, first: int = 0, tolerance: float = TOLERANCE) -> None:
        """Both `[B, T, ...]`, from step `first` on."""
        found, expected = found.double(), expected.double()
        if not expected.numel():
            return
        differences = (found - expected).abs() / expected.abs().max().clamp(min=1)
        by_step = differences.flatten(2).amax(2).amax(0)
        self.size = max(self.size, by_step.max().item())
        wrong = (~(by_step <= tolerance)).nonzero()  # NaN, too
        if len(wrong):
            t = int(wrong[0])
            size = f"{by_step[t]:.2g} (at most {tolerance:.0e})"
            self.fail(f"step {first + t}: {what} differs by {size}", first + t)

    def compare_states(self, found: State, expected: State) -> None:
        for key, leaf in expected.items():
            one, other = (state[key].reshape(len(leaf), 1, -1) for state in (found, expected))
            self.compare(one, other, f"the last state {key}".rstrip(), STEPS - 1)


@dataclass
class CellReport:
    """What `check_cell` found."""

    cell: str
    width: int
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        return all(one.ok for one in self.findings)

    def as_dict(self) -> dict[str, Any]:
        checks = [asdict(one) | {"ok": one.ok} for one in self.findings]
        return {"cell": self.cell, "width": self.width, "checks": checks, "ok": self.ok}

    def print(self) -> None:
        """Print a line for each check, the verdict last."""
        for one in self.findings:
            say(f"{'ok    ' if one.ok else 'FAILED'}  {one.check:44} {one.why or one.note or f'{one.size:.1e}'}")
        failed = sum(not one.ok for one in self.findings)
        said = f"{failed} of {len(self.findings)} checks failed" if failed else "all checks passed"
        say(f"{'ok' if self.ok else 'not ok'}: {self.cell} with {self.width} features: {said}")


def check_cell(name: str, width: int = 32, mem_len: int = 4, device: str = "cpu") -> CellReport:
    """Check the cell `name`, a token of ours or MODULE:CLASS, in a stack of `width` features.

    Raises UsageError if `name` is no single cell, or if there is no such class.
    """
    try:
        tokens = parse_pattern(name)
    except ValueError as error:
        raise UsageError(f"{error}{_cells_in(name)}") from None
    if len(tokens) != 1:
        raise UsageError(f"'{name}' has {len(tokens)} cells: check one at a time")
    if tokens[0] not in TOKENS:
        own_class(tokens[0])
    findings = [Finding("it can be made and called"), *map(Finding, CHECKS)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with _told(findings[0]):
            block = build_block(tokens[0], Options(d_hidden=width, mem_len=mem_len)).to(device)
            findings[0].note = type(block).__name__
            trial = Trial(block, width, torch.device(device))
        if not findings[0].ok:
            return CellReport(name, width, findings[:1])
        for finding in findings[1:]:
            with _told(finding):
                CHECKS[finding.check](trial, finding)
    return CellReport(name, width, findings)


def _cells_in(name: str) -> str:
    """'; known: a:B' for the name of a module `a`, which is imported; '' for another name."""
    if not (module := module_in(name)):
        return ""
    found = [f"{module}:{cell}" for cell in offered(import_named(module, name), "cells")]
    return f"; known: {', '.join(found)}" if found else "; it has none: no class with init_state and forward"


def shake(module: nn.Module, scale: float = 0.1, seed: int = 0) -> None:
    """Add noise to every parameter, so that no part of the module is hidden by an initial zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p += scale * torch.randn(p.shape, generator=generator).to(p.device)


def run_in_calls(
    module: nn.Module, x: Tensor, state: Any, resets: Tensor | None, cuts: list[int]
) -> tuple[Tensor, Any]:
    """y and the last state of a sequence in several calls, the later ones beginning at `cuts`."""
    ys: list[Tensor] = []
    for start, stop in zip([0, *cuts], [*cuts, x.shape[1]], strict=True):
        y, state = module(x[:, start:stop], state, None if resets is None else resets[:, start:stop])
        ys.append(y)
    return torch.cat(ys, 1), state


class Trial:
    """A cell, and what to try it with: `x` `[B, T, W]`, `resets` `[B, T]` and `state`, which earlier steps left."""

    def __init__(self, block: nn.Module, width: int, device: torch.device) -> None:
        self.cell: nn.Module = block.cell  # type: ignore[assignment]
        self.device = device
        shake(self.cell, 0.2)
        width = PreUpGated.cell_width(width) if isinstance(block, PreUpGated) else width
        self.x = torch.randn(ROWS, STEPS, width).to(device)
        self.resets = (torch.rand(ROWS, STEPS) < STARTS).to(device)
        self.resets[:, STEPS // 2] = torch.tensor([True, False, True, False, True])  # some inside, in some rows
        with torch.no_grad():
            y, self.state = self.cell(torch.randn_like(self.x), self.fresh(), self.resets)
        if not all(leaf.isfinite().all() for leaf in (y, *self.state.values())):
            raise UsageError("it returns numbers that are not finite (NaN or infinity)")

    def fresh(self, rows: int = ROWS, dtype: torch.dtype = torch.float32) -> State:
        return self.cell.init_state(rows, self.device, dtype)  # type: ignore[operator]


@contextmanager
def _told(finding: Finding) -> Generator[None]:
    """An error of the cell is what the finding says."""
    try:
        yield
    except UsageError as error:  # of OwnCell
        finding.fail(str(error))
    except Exception as error:
        finding.fail(f"{type(error).__name__}: {one_line(error)}{where_raised(error)}")


@torch.no_grad()
def _steps(t: Trial, finding: Finding) -> None:
    _same_in_calls(t, finding, list(range(1, STEPS)))


@torch.no_grad()
def _pieces(t: Trial, finding: Finding) -> None:
    for cuts in ([1], [STEPS // 2], [3, 4, 9]):
        _same_in_calls(t, finding, cuts)


def _same_in_calls(t: Trial, finding: Finding, cuts: list[int], tolerance: float = TOLERANCE) -> None:
    whole, after = t.cell(t.x, t.state, t.resets)
    y, last = run_in_calls(t.cell, t.x, t.state, t.resets, cuts)
    finding.compare(y, whole, "y", tolerance=tolerance)
    if tolerance == TOLERANCE:
        finding.compare_states(last, after)


@torch.no_grad()
def _resets(t: Trial, finding: Finding) -> None:
    for at in (0, 1, STEPS // 2):
        resets = torch.zeros_like(t.resets)
        resets[:, at] = True
        fresh, _ = t.cell(t.x[:, at:], t.fresh(), torch.zeros_like(resets[:, at:]))
        for cuts in ([], list(range(1, STEPS))):
            y, _ = run_in_calls(t.cell, t.x, t.state, resets, cuts)
            how = "in steps" if cuts else "in one call"
            finding.compare(y[:, at:], fresh, f"y after a reset at step {at}, {how},", at)


@torch.no_grad()
def _rows(t: Trial, finding: Finding) -> None:
    y, after = t.cell(t.x, t.state, t.resets)
    rows = torch.tensor([3, 1], device=t.device)
    few, few_after = t.cell(t.x[rows], {key: leaf[rows] for key, leaf in t.state.items()}, t.resets[rows])
    finding.compare(few, y[rows], "y of two rows without the others")
    finding.compare_states(few_after, {key: leaf[rows] for key, leaf in after.items()})
    others = t.x.clone()
    others[0] = torch.randn_like(others[0])
    finding.compare(t.cell(others, t.state, t.resets)[0][1:], y[1:], "y of a row after another row has changed")


@torch.no_grad()
def _memory_off(t: Trial, finding: Finding) -> None:
    y, state = t.cell(t.x, None, None)
    if state:
        finding.fail("it returns a state")
    none = torch.zeros_like(t.resets[:, :1])
    alone = [t.cell(t.x[:, at : at + 1], t.fresh(), none)[0] for at in range(STEPS)]
    finding.compare(y, torch.cat(alone, 1), "y with memory off")
    others = t.x.clone()
    others[:, ::2] = torch.randn_like(others[:, ::2])
    changed, _ = t.cell(others, None, None)
    by_step = torch.zeros_like(y)
    by_step[:, 1::2] = changed[:, 1::2] - y[:, 1::2]
    finding.compare(by_step, torch.zeros_like(y), "y with memory off, after other steps have changed,")


@torch.no_grad()
def _calls(t: Trial, finding: Finding) -> None:
    given = copy.deepcopy(t.state)
    y, after = t.cell(t.x, t.state, t.resets)
    kept = copy.deepcopy(after)
    t.cell(torch.randn_like(t.x), after, t.resets)
    again, _ = t.cell(t.x, given, t.resets)
    finding.compare(again, y, "y of the same call, made again,")
    for state, before in ((t.state, given), (after, kept)):
        if any(not torch.equal(state[key], before[key]) for key in before):
            finding.fail("a call changes the state that it is given: return a new one")


@torch.no_grad()
def _types(t: Trial, finding: Finding) -> None:
    for dtype, device in ((torch.float64, t.device), (torch.float32, torch.device("meta"))):
        for key, leaf in t.cell.init_state(2, device, dtype).items():  # type: ignore[operator]
            if leaf.device.type != device.type:
                finding.fail(f"init_state returns its state{key} on {leaf.device}, not on {device}")
            if leaf.is_floating_point() and leaf.dtype != dtype:
                finding.fail(f"init_state returns its state{key} as {leaf.dtype}, not as {dtype}")
    with torch.autocast(t.device.type, torch.bfloat16):
        _same_in_calls(t, finding, list(range(1, STEPS)), HALF_TOLERANCE)
    finding.note = "float32, float64, bf16"


def _reach(t: Trial, finding: Finding) -> None:
    x, direction = t.x.clone().requires_grad_(), torch.randn_like(t.x)
    y, _ = t.cell(x, t.fresh(), torch.zeros_like(t.resets))
    reach = 0
    for at in range(STEPS):
        (grad,) = torch.autograd.grad((y[:, at] * direction[:, at]).sum(), x, retain_graph=True)
        by_step = grad.abs().sum((0, 2))
        if not by_step.isfinite().all():
            finding.fail(f"step {at}: a gradient is not finite", at)
        if by_step[at + 1 :].any():
            finding.fail(f"step {at}: y has a gradient from a later step", at)
        reach = max(reach, at - int(by_step.nonzero()[0]) if by_step.any() else 0)
    finding.note = f"{reach} of {STEPS - 1} steps back"
    if reach == 0:
        others = torch.cat([torch.randn_like(x[:, :1]), x[:, 1:]], 1)
        change = (t.cell(others, t.fresh(), torch.zeros_like(t.resets))[0] - y)[:, 1:].abs().max().item()
        cut = f"y changes by {change:.2g} with step 0, but gets no gradient from any earlier step"
        finding.fail(f"step 1: {cut if change else 'y depends on no earlier step: this is no memory'}", 1)


def _derivatives(t: Trial, finding: Finding) -> None:
    """Each gradient along a random direction, against the difference of two values, in double precision."""
    cell = copy.deepcopy(t.cell).double()
    x, direction = t.x.double().requires_grad_(), torch.randn_like(t.x).double()
    state = cell.init_state(ROWS, t.device, torch.float64)  # type: ignore[operator]
    named = {"x": x} | dict(cell.named_parameters())

    def value() -> Tensor:
        return (cell(x, state, t.resets)[0] * direction).sum()

    grads = torch.autograd.grad(value(), list(named.values()), allow_unused=True)
    for (name, tensor), grad in zip(named.items(), grads, strict=True):
        for at in range(STEPS) if name == "x" else (None,):
            along = torch.randn_like(tensor)
            if at is not None:
                along[:, :at], along[:, at + 1 :] = 0, 0
            told = 0.0 if grad is None else (grad * along).sum().item()
            size = min(_distance(told, value, tensor, along, step) for step in EPSILONS)
            finding.size = max(finding.size, size)
            if not size <= GRADIENT_TOLERANCE:
                where = f"step {at}: " if at is not None else ""
                finding.fail(
                    f"{where}the gradient of {name} is off by {size:.2g} (at most {GRADIENT_TOLERANCE:.0e})", at
                )


@torch.no_grad()
def _distance(told: float, value: Callable[[], Tensor], tensor: Tensor, along: Tensor, step: float) -> float:
    """Between a derivative and the difference of the values `step` ahead and behind, relative above 1."""
    before, values = tensor.clone(), list[float]()
    for sign in (1, -1):
        tensor.copy_(before + sign * step * along)
        values.append(value().item())
    tensor.copy_(before)
    true = (values[0] - values[1]) / (2 * step)
    return abs(told - true) / max(1.0, abs(true))


CHECKS: dict[str, Callable[[Trial, Finding], None]] = {
    "steps equal the sequence": _steps,
    "pieces of a sequence equal the whole": _pieces,
    "a reset equals a fresh start": _resets,
    "rows do not mix": _rows,
    "memory off: every step is a first one": _memory_off,
    "a call leaves nothing behind": _calls,
    "types and devices of the state": _types,
    "gradients are finite and reach back": _reach,
    "gradients equal differences of values": _derivatives,
}
"""What is checked, in this order."""
