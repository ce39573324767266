"""A task id means the same task as in the original."""

import json
import subprocess
import sys

import pytest
from helpers.golden import GOLDEN

from memexp.envs.assembly_tasks import SINK_COOLDOWN, STYLES, sample_task
from memexp.envs.config import AssemblyLines


def stations_of(task) -> list:
    """The stations of a task as [name, inputs, outputs, cooldown]."""
    outputs = [*task.resources, "heart"]
    inputs = [{}] + [{resource: 1} for resource in task.resources]
    chain = [
        [name, needs, {makes: 1}, task.cooldown]
        for name, needs, makes in zip(task.stations, inputs, outputs, strict=False)
    ]
    sinks = task.stations[len(chain) :]
    return chain + [[name, dict.fromkeys(sorted(task.resources), 1), {}, SINK_COOLDOWN] for name in sinks]


@pytest.mark.parametrize("style", STYLES, ids=lambda style: f"golden-assembly-{style}")
def test_every_recorded_task_id_gives_the_recorded_task(style):
    file = GOLDEN / "task_samples.json"
    if not file.exists():
        pytest.skip(f"no golden data in {GOLDEN} (set MEMEXP_GOLDEN)")
    recorded = json.loads(file.read_text())["assembly_lines"][style]
    assert recorded["samples"]
    for sample in recorded["samples"]:
        task = sample_task(sample["task_id"], STYLES[style])
        assert {
            "task_id": sample["task_id"],
            "label": f"{task.room}_{len(task.resources)}chain_{task.num_sinks}sinks_{task.terrain}",
            "width": task.width,
            "height": task.height,
            "max_steps": task.max_steps,
            "density": task.terrain,
            "stations": stations_of(task),
        } == sample


def test_every_curriculum_style_of_the_config_has_tasks():
    styles = AssemblyLines.model_fields["curriculum_style"].annotation.__args__
    assert set(styles) == set(STYLES)


def test_tasks_can_be_drawn_without_numba_and_torch():
    code = "import sys, memexp.envs.assembly_tasks; sys.exit(bool({'numba', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
