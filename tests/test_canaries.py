"""Planted secrets: a demo-like matrix, its report, rendered tasks and offline W&B folders hold none of them."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.checkouts import commit, git

PLANTED = ("ENVIRONMENT", "DATABASE", "WEBHOOK", "REMOTE", "DIFF", "OPTION", "TYPED", "PRINTED")
CANARY = {name: f"CANARY{name}x7Q2" for name in PLANTED}
ENV = '''
import os, gymnasium, numpy
class Shop(gymnasium.Env):
    """Asks a service, which refuses in the `at`th step."""
    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2)
    def __init__(self, token, at, **options):
        self.token, self.at, self.steps = token, at, 0
        print("connecting with", token, os.environ["SERVICE_API_KEY"], options)
    def reset(self, seed=None, options=None):
        self.t = 0
        return numpy.zeros(2, "float32"), {}
    def step(self, action):
        self.t, self.steps = self.t + 1, self.steps + 1
        if self.steps == self.at:
            raise RuntimeError(f"401: {self.token} is refused at {os.environ['DATABASE_URL']}, "
                               f"key {os.environ['SERVICE_API_KEY']}, Authorization: Bearer PRINTED")
        return numpy.zeros(2, "float32"), float(action), self.t == 5, False, {}
'''.replace("PRINTED", CANARY["PRINTED"][:10] + '" "' + CANARY["PRINTED"][10:])
MATRIX = f"""
name: shop
environments:
  open:   {{recipe: any, args: {{env: "module:shop:Shop", options: {{token: {CANARY["OPTION"]}, at: 0}}}}}}
  closed: {{recipe: any, args: {{env: "module:shop:Shop", options: {{token: {CANARY["OPTION"]}, at: 50}}}}}}
architectures: {{S: {{pattern: S, d_hidden: 16, n_heads: 2}}}}
steps: [256]
seeds: 1
twins: false
resources: {{gpus: 0}}
overrides:
  trainer.num_envs: 8
  trainer.horizon: 8
  trainer.num_minibatches: 2
  evaluation.random_episodes: 4
"""


@pytest.fixture
def project(tmp_path):
    """Somebody's repository with secrets in its remote, its uncommitted changes and its matrix."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "remote", "add", "origin", f"https://{CANARY['REMOTE']}:x-oauth-basic@example.invalid/me/shop.git")
    (folder / "shop.py").write_text(ENV)
    (folder / "app.py").write_text("X = 1\n")
    (folder / ".gitignore").write_text("memexp_home\n")
    commit(folder)
    (folder / "app.py").write_text(f'PASSWORD = "{CANARY["DIFF"]}"\n')
    (folder / "shop.yaml").write_text(MATRIX)
    return folder


@pytest.mark.slow
def test_no_planted_secret_is_in_any_file_or_output_of_a_matrix(project, tmp_path):
    places = {name: str(tmp_path / name) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    for place in places.values():
        Path(place).mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "MEMEXP"))}
    secrets = {
        "SERVICE_API_KEY": CANARY["ENVIRONMENT"],
        "DATABASE_URL": f"postgres://me:{CANARY['DATABASE']}@db/shop",
        "MEMEXP_WEBHOOK_URL": f"http://127.0.0.1:9/hooks/{CANARY['WEBHOOK']}",
    }
    said = ""

    def memexp(*words: str) -> int:
        nonlocal said
        command = [sys.executable, "-m", "memexp", *words]
        done = subprocess.run(
            command, cwd=project, env=kept | places | secrets, capture_output=True, text=True, check=False
        )
        said += done.stdout + done.stderr
        return done.returncode

    assert memexp("launch", "shop.yaml", "--local", "--jobs", "1") == 1
    assert "1 done, 1 failed" in said
    typed = [f"options={{token: {CANARY['TYPED']}, at: 300}}", "trainer.num_envs=8", "trainer.horizon=8"]
    typed += ["trainer.total_timesteps=4k", "evaluation.random_episodes=2"]
    assert memexp("train", "any", "env=module:shop:Shop", *typed, "run=typed") == 1
    assert memexp("report", "shop", "--out", "report.html", "--md", "report.md", "--json") == 0
    assert memexp("launch", "shop.yaml", "--dry-run") == 2  # no task may hold the option
    assert memexp("launch", "tmaze", "--render", "tasks") == 0
    assert memexp("play", "shop.open_S_256.s0", "--ascii") == 2
    assert memexp("status", "--json") == 0

    planted = [project / "app.py", project / "shop.yaml", project / ".git" / "config"]
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file not in planted]
    hits = [(file, name) for file in files for name in PLANTED if CANARY[name].encode() in file.read_bytes()]
    assert hits == []
    assert [name for name in PLANTED if CANARY[name] in said] == []

    runs = project / "memexp_home" / "runs"
    assert len(list(runs.glob("*/wandb/offline-run-*/*.wandb"))) == 2
    reason = json.loads((runs / "typed" / "exit.json").read_text())["reason"]
    assert re.match(r"update \d+: (.|\n)*401: \*\*\* is refused", reason), reason
    assert {file.name for file in files} >= {"report.html", "report.md", "log.txt", "provenance.json", "config.yaml"}
    for name in ("log.txt", "config.yaml", "provenance.json"):
        assert {stat.S_IMODE(file.stat().st_mode) for file in runs.rglob(name) if "wandb" not in file.parts} == {0o600}
    record = json.loads((runs / "typed" / "provenance.json").read_text())["project"]
    assert record["commit"] == git(project, "rev-parse", "HEAD").strip()
    assert record["diff"] is None
    outside = {file.relative_to(tmp_path).parts[:3] for file in files if project not in file.parents}
    print(f"{len(files)} files searched; outside the project: {sorted(outside)}")
