"""Settings of the whole suite: reproducible property tests without deadlines, and a home of its own for every test."""

import pytest
from helpers.golden import describe_golden
from hypothesis import settings

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


def pytest_terminal_summary(terminalreporter):
    """Says which golden data the tests used."""
    terminalreporter.write_line(describe_golden())
