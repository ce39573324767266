"""The grid engine on the device: the same bits as on the CPU. Without a GPU in CUDA's simulator, in its own process."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from helpers.golden import GOLDEN, is_subset

from memexp.config import UsageError
from memexp.envs import make

ON_GPU = torch.cuda.is_available()
SHORT = (
    "assembly_lines/level_0_a", "assembly_lines/tiny_b", "cvc_random_maps/n4_full_episode",
    "cvc_random_maps/n8_overfull", "cvc_random_maps/n10_allvibes", "cvc_random_maps/n20_base_b",
)  # fmt: skip
"""Recordings that the simulator replays within seconds."""
ROOT = Path(__file__).parents[2]


def tell(*words: str) -> dict:
    """What helpers/device.py says when it is asked this: in a process of its own, simulated where there is no GPU."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])}
    if not ON_GPU:
        env |= {"NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "helpers.device", *words], env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.skipif(find_spec("numba_cuda") is not None, reason="numba-cuda is installed")
def test_a_device_without_numba_cuda_is_refused_by_naming_what_to_install():
    with pytest.raises(UsageError, match=r"'cuda:1'.* need numba-cuda there: pip install 'memexp\[gpu\]'"):
        make("assembly_lines", 1, "cuda:1")


@pytest.mark.slow
def test_golden_cvc_and_assembly_recordings_replay_bit_by_bit_in_kernels():
    files = sorted(GOLDEN.glob("[ac]*s/*.npz"))
    if not ON_GPU:
        files = [file for file in files if f"{file.parent.name}/{file.stem}" in SHORT]
    assert len(files) >= (len(SHORT) if not is_subset(GOLDEN) else 3)
    steps = tell("replay", *map(str, files))
    assert len(steps) == len(files)
    assert min(steps.values()) >= 200


@pytest.mark.slow
@pytest.mark.parametrize("game", ["assembly_lines", "cvc_random_maps"])
def test_envs_on_the_device_do_what_envs_on_the_cpu_do(game):
    told = tell("same", game)
    assert told["episodes"] >= 12
    assert told["inside"] >= 2  # episodes that were cut by neither the start nor the end of the test, with statistics


@pytest.mark.slow
def test_a_run_carries_on_from_the_cpu_on_the_device_and_back():
    assert tell("moves")["episodes"] >= 8


@pytest.mark.slow
def test_envs_on_the_device_can_be_begun_anew_just_after_their_episodes_have_ended():
    assert tell("anew")["episodes"] == 2


@pytest.mark.slow
def test_a_curriculum_gives_the_device_the_tasks_that_it_gives_the_cpu():
    told = tell("curriculum")
    assert told["episodes"] >= 15
    assert 0 < told["unplanned"] < 0.5


@pytest.mark.slow
@pytest.mark.skipif(
    not (find_spec("numba_cuda") and find_spec("cuda") and find_spec("cuda.bindings")),
    reason="compiling kernels needs numba-cuda with NVVM and nvJitLink: pip install 'memexp[gpu]'",
)
def test_every_kernel_compiles_for_real_gpus_without_spilling():
    words = [sys.executable, str(ROOT / "benchmarks" / "ptx.py"), "--json"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    if "NVVM" in run.stderr or "DynamicLibNotFoundError" in run.stderr:
        pytest.skip("numba-cuda is there, but not NVVM or nvJitLink: pip install 'memexp[gpu]'")
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)
    assert {row["cc"] for row in rows} == {80, 90}
    assert all(row["registers"] > 0 and row["cubin_bytes"] > 0 for row in rows)
    assert [row["kernel"] for row in rows if row["spilled_bytes"] or row["stack_bytes"]] == []
