"""Settings of the whole suite: reproducible property tests without deadlines, and a home of its own for every test."""

import os
from pathlib import Path

import pytest
import torch
from helpers.golden import describe_golden
from hypothesis import settings

# Tests change XDG_CACHE_HOME. Without this, every process that a test starts would compile all kernels again.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
os.environ.setdefault("NUMBA_CACHE_DIR", str(CACHE / "memexp" / "numba"))
settings.register_profile("memexp", deadline=None, derandomize=True)
settings.load_profile("memexp")


@pytest.fixture(autouse=True)
def home(tmp_path, tmp_path_factory, monkeypatch):
    """$MEMEXP_HOME of the test: nothing is written into the checkout."""
    monkeypatch.setenv("MEMEXP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("MEMEXP_PRICES_FROM", "table")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def _threads():
    """A test that changes the number of threads, as training does, changes no sums of the next one."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _plans_build_nothing(request, monkeypatch):
    """Building what a plan names takes seconds: only tests with the fixture `builds` do."""
    if "builds" not in request.fixturenames:
        for place in ("launch", "cloud.dispatch"):
            monkeypatch.setattr(f"memexp.launch.{place}.build", lambda specs, terminal: [])


def pytest_terminal_summary(terminalreporter):
    """Says which golden data the tests used."""
    terminalreporter.write_line(describe_golden())
