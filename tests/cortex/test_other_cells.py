"""Cells of other papers against independent forms: PyTorch's GRU, and the equations as loops over single numbers."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memexp.cortex.cells.delta import GatedDeltaNet
from memexp.cortex.cells.frames import Frames
from memexp.cortex.cells.gru import GRU
from memexp.cortex.cells.lru import LRU, RADII
from memexp.cortex.cells.mamba import Mamba2
from memexp.cortex.cells.min_gru import MinGRU
from memexp.cortex.cells.s5 import S5, hippo
from memexp.cortex.config import MAMBA_STATE
from memexp.cortex.kernels import gru, scan

B, T, H = 3, 11, 6


def shaken(cell: nn.Module) -> nn.Module:
    """The cell in float64, with no parameter at a special value."""
    torch.manual_seed(1)
    cell = cell.double()
    for p in cell.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return cell


def run(cell: nn.Module, x: Tensor, resets: Tensor) -> np.ndarray:
    return cell(x, cell.init_state(len(x), x.device, x.dtype), resets)[0].detach().numpy()


def episodes(resets: Tensor) -> list[tuple[int, slice]]:
    """(row, steps) of each episode, and of the steps before the first reset."""
    found = []
    for row, starts in enumerate(resets):
        bounds = sorted({0, *(int(t) for t in torch.nonzero(starts)), resets.shape[1]})
        found += [(row, slice(a, b)) for a, b in pairwise(bounds)]
    return found


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def weights(cell: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy() for name, p in cell.named_parameters()}


@pytest.fixture
def given() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(B, T, H, dtype=torch.float64), torch.rand(B, T) < 0.2


def test_the_gru_is_that_of_pytorch_in_every_episode_and_in_its_gradients(given) -> None:
    x, resets = given
    cell = shaken(GRU(H))
    theirs = nn.GRU(H, H, batch_first=True).double()
    theirs.load_state_dict({name.removeprefix("net."): p for name, p in cell.named_parameters()})
    ours = cell(x, cell.init_state(B, x.device, x.dtype), resets)[0]
    oracle = torch.empty_like(ours)
    for row, steps in episodes(resets):
        oracle[row, steps] = theirs(x[row : row + 1, steps])[0][0]
    torch.testing.assert_close(ours, oracle)
    direction = torch.randn_like(ours)
    mine = torch.autograd.grad((ours * direction).sum(), list(cell.parameters()))
    names, parameters = zip(*theirs.named_parameters(), strict=True)
    known = dict(zip(names, torch.autograd.grad((oracle * direction).sum(), parameters), strict=True))
    for (name, _), gradient in zip(cell.named_parameters(), mine, strict=True):
        torch.testing.assert_close(gradient, known[name.removeprefix("net.")])


def test_the_min_gru_is_equation_by_equation_that_of_its_paper(given) -> None:
    x, resets = given
    cell = shaken(MinGRU(H))
    w, y = weights(cell), run(cell, x, resets)
    for row, steps in episodes(resets):
        h = np.zeros(H)
        for t in range(steps.start, steps.stop):
            k, v = np.split(w["gate_and_candidate.weight"] @ x[row, t].numpy() + w["gate_and_candidate.bias"], 2)
            z, candidate = sigmoid(k), np.where(v >= 0, v + 0.5, sigmoid(v))
            h = (1 - z) * h + z * candidate
            np.testing.assert_allclose(y[row, t], h)


def test_the_lru_is_a_complex_recurrence_whose_real_part_is_read(given) -> None:
    x, resets = given
    cell = shaken(LRU(H))
    w, y = weights(cell), run(cell, x, resets)
    decay = np.exp(-np.exp(w["nu_log"]) + 1j * np.exp(w["theta_log"]))
    into = w["into.weight"][:H] + 1j * w["into.weight"][H:]
    out = w["out.weight"][:, :H] - 1j * w["out.weight"][:, H:]
    for row, steps in episodes(resets):
        c = np.zeros(H, complex)
        for t in range(steps.start, steps.stop):
            c = decay * c + np.exp(w["gamma_log"]) * (into @ x[row, t].numpy())
            np.testing.assert_allclose(y[row, t], (out @ c).real + w["skip"] * x[row, t].numpy())


def test_the_lru_starts_in_its_ring_and_keeps_the_size_of_what_it_reads() -> None:
    torch.manual_seed(0)
    cell = LRU(512)
    radius = (-cell.nu_log.exp()).exp()
    assert RADII[0] <= radius.min() < radius.max() <= RADII[1] + 1e-6
    torch.testing.assert_close(cell.gamma_log.exp() ** 2 + radius**2, torch.ones(512))


def silu(a: np.ndarray) -> np.ndarray:
    return a * sigmoid(a)


def convolved(u: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    """silu of a causal convolution over the steps `[T, F]` of an episode."""
    taps, before = w["conv1d.conv.weight"][:, 0], np.zeros((3, u.shape[1]))
    run = np.concatenate([before, u])
    return silu(np.stack([(taps.T * run[t : t + 4]).sum(0) for t in range(len(u))]) + w["conv1d.conv.bias"])


def normed(a: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return a / np.sqrt((a**2).mean() + 1e-5) * weight


def test_s5_is_the_discretised_system_of_its_paper(given) -> None:
    x, resets = given
    cell = shaken(S5(H))
    w, y = weights(cell), run(cell, x, resets)
    L, step = -np.exp(w["log_damping"]) + 1j * w["frequency"], np.exp(w["log_step"])
    into = w["into.weight"][:H] + 1j * w["into.weight"][H:]
    out = (w["out.weight"][:, :H] - 1j * w["out.weight"][:, H:]) / 2
    for row, steps in episodes(resets):
        c = np.zeros(H, complex)
        for t in range(steps.start, steps.stop):
            u = x[row, t].numpy()
            c = np.exp(L * step) * c + (np.exp(L * step) - 1) / L * (into @ u)
            a = torch.from_numpy(2 * (out @ c).real + w["skip"] * u)
            g = torch.nn.functional.gelu(a).numpy()
            np.testing.assert_allclose(y[row, t], g * sigmoid(w["gate.weight"] @ g + w["gate.bias"]))


def test_s5_starts_as_the_normal_part_of_hippo() -> None:
    """A = V L V*: the half that is kept and its conjugate give back the real matrix."""
    values, vectors = hippo(8)
    rates = torch.diag(-0.5 + 1j * values)
    half = vectors @ rates @ vectors.conj().T
    n = np.arange(8)
    legs = -np.sqrt(np.outer(2 * n + 1, 2 * n + 1))
    low_rank = np.outer(np.sqrt(n + 0.5), np.sqrt(n + 0.5))
    normal = np.tril(legs, -1) - np.diag(n + 1) + low_rank
    np.testing.assert_allclose(2 * half.real, normal, atol=1e-5)
    np.testing.assert_allclose(2 * torch.linalg.eigvals(half).imag.abs().max(), 2 * values.max(), rtol=1e-4)


def test_mamba_2_is_equation_by_equation_that_of_its_paper(given) -> None:
    x, resets = given
    cell = shaken(Mamba2(H, chunk=4))
    w, y, S = weights(cell), run(cell, x, resets), MAMBA_STATE
    N, P = cell.n_heads, 2 * H // cell.n_heads
    assert (N, P) == (3, 4)
    for row, steps in episodes(resets):
        h = np.zeros((N, P, S))
        z, u, dt = np.split(x[row, steps].numpy() @ w["in_proj.weight"].T, [2 * H, 4 * H + 2 * S], axis=1)
        v, b, c = np.split(convolved(u, w), [2 * H, 2 * H + S], axis=1)
        for t in range(len(u)):
            d, heads, out = np.log1p(np.exp(dt[t] + w["dt_bias"])), v[t].reshape(N, P), np.zeros((N, P))
            for n in range(N):
                h[n] = np.exp(-np.exp(w["A_log"][n]) * d[n]) * h[n] + d[n] * np.outer(heads[n], b[t])
                out[n] = h[n] @ c[t] + w["D"][n] * heads[n]
            expected = w["out_proj.weight"] @ normed(out.ravel() * silu(z[t]), w["norm"])
            np.testing.assert_allclose(y[row, steps.start + t], expected)


def test_the_gated_delta_net_is_equation_by_equation_that_of_its_paper(given) -> None:
    x, resets = given
    cell = shaken(GatedDeltaNet(H, n_heads=2, chunk=4))
    w, y, N, d = weights(cell), run(cell, x, resets), 2, H // 2
    for row, steps in episodes(resets):
        s = np.zeros((N, d, d))  # value, key
        seen = x[row, steps].numpy()
        u, z = np.split(seen @ w["in_proj.weight"].T, [3 * H], axis=1)
        a, b = np.split(seen @ w["gates.weight"].T, 2, axis=1)
        q, k, v = (part.reshape(-1, N, d) for part in np.split(convolved(u, w), 3, axis=1))
        for t in range(len(u)):
            out = np.zeros((N, d))
            for n in range(N):
                query, key = (one[t, n] / np.sqrt((one[t, n] ** 2).sum() + 1e-6) for one in (q, k))
                decay = np.exp(-np.exp(w["A_log"][n]) * np.log1p(np.exp(a[t, n] + w["dt_bias"][n])))
                beta = sigmoid(b[t, n])
                s[n] = decay * s[n] @ (np.eye(d) - beta * np.outer(key, key)) + beta * np.outer(v[t, n], key)
                out[n] = normed(s[n] @ query / np.sqrt(d), w["norm"])
            expected = w["out_proj.weight"] @ (out.ravel() * silu(z[t]))
            np.testing.assert_allclose(y[row, steps.start + t], expected)


def test_stacked_frames_are_the_last_four_of_the_episode(given) -> None:
    x, resets = given
    cell = shaken(Frames(H))
    w, y = weights(cell), run(cell, x, resets)
    for row, steps in episodes(resets):
        for t in range(steps.start, steps.stop):
            seen = [x[row, s].numpy() if s >= steps.start else np.zeros(H) for s in range(t - 3, t + 1)]
            a = w["stacked.weight"] @ np.concatenate(seen) + w["stacked.bias"]
            np.testing.assert_allclose(y[row, t], w["out.weight"] @ silu(a) + w["out.bias"])


@pytest.mark.parametrize("cell", [GRU, MinGRU])
def test_without_a_kernel_the_plain_loop_gives_the_same(cell, given, monkeypatch) -> None:
    x, resets = given
    one = shaken(cell(H))
    fast = run(one, x, resets)
    for module in (gru, scan):
        monkeypatch.setattr(module, "has_kernel", lambda x, on_gpu=True: False)
    np.testing.assert_allclose(run(one, x, resets), fast)
