"""What is handed to SkyPilot: the founding commands as their author typed them are valid tasks, and carry no secret."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.commands import files_below, type_command

from memexp.config import UsageError
from memexp.launch.cloud.code import Code
from memexp.launch.cloud.install import Install
from memexp.launch.cloud.sky_task import dump, make_task, sent_along, to_sky, validate
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.resources import INFRA, Resources
from memexp.launch.plan.run_spec import recipe_specs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SkyPilot's imports
ROOT = Path(__file__).parents[2]
CODE = Install(Code("c0ffee", "https://github.com/a/b", ()))

FOUNDING_NOTE = r"""
./devops/skypilot/launch.py \
    recipes.experiment.cortex_paper.2_memory_needed.cvc_random_maps_train.train \
    --gpus=8 --skip-git-check \
    --run=yatharth.2025-12-31.memory-needed.cvc_random_maps_xl_memlen0_2b \
    trainer.total_timesteps=2000000000 \
    pattern=X mem_len=0

./devops/skypilot/launch.py \
    recipes.experiment.cortex_paper.2_memory_needed.cvc_random_maps_train.train \
    --gpus=8 --skip-git-check \
    --run=yatharth.2025-12-31.memory-needed.cvc_random_maps_xl_memlen128_2b \
    trainer.total_timesteps=2000000000 \
    pattern=X mem_len=128

./devops/skypilot/launch.py \
    recipes.experiment.cortex_paper.2_memory_needed.cvc_random_maps_train.train \
    --gpus 8 --skip-git-check \
    --run=yatharth.2025-12-31.memory-needed.cvc_random_maps_sLSTM_2b \
    trainer.total_timesteps=2000000000 \
    pattern=S

./devops/skypilot/launch.py \
    recipes.experiment.cortex_paper.2_memory_needed.cvc_random_maps_train.train \
    --gpus=8 --skip-git-check \
    --run=yatharth.2025-12-31.memory-needed.cvc_random_maps_AgSA_2b \
    trainer.total_timesteps=2000000000 \
    pattern=AgSA

./devops/skypilot/launch.py \
    recipes.experiment.cortex_paper.2_memory_needed.assembly_lines_train.train \
    --gpus=8 --skip-git-check \
    --run=yatharth.2025-01-01.memory-needed.assembly_lines_xl_memlen0_2b \
    trainer.total_timesteps=2000000000 \
    pattern=X mem_len=0

./devops/skypilot/launch.py \
    recipes.experiment.cortex_paper.2_memory_needed.assembly_lines_train.train \
    --gpus=8 --skip-git-check \
    --run=yatharth.2025-01-01.memory-needed.assembly_lines_xl_memlen128_2b \
    trainer.total_timesteps=2000000000 \
    pattern=X mem_len=128

./devops/skypilot/launch.py \
    recipes.experiment.cortex_paper.2_memory_needed.assembly_lines_train.train \
    --gpus=8 --skip-git-check \
    --run=yatharth.2025-01-01.memory-needed.assembly_lines_sLSTM_2b \
    trainer.total_timesteps=2000000000 \
    pattern=S

./devops/skypilot/launch.py \
    recipes.experiment.cortex_paper.2_memory_needed.assembly_lines_train.train \
    --gpus=8 --skip-git-check \
    --run=yatharth.2025-01-01.memory-needed.assembly_lines_AgSA_2b \
    trainer.total_timesteps=2000000000 \
    pattern=AgSA
"""
COMMANDS = [shlex.split(command.replace("\\\n", " "))[1:] for command in FOUNDING_NOTE.strip().split("\n\n")]


def run_name(words: list[str]) -> str:
    return next(word.removeprefix("--run=") for word in words if word.startswith("--run="))


def spec(**words: str):
    return recipe_specs(find_recipe("tmaze"), {"run": "a.run", **words})[0]


def as_sky(task: dict):
    import sky

    return to_sky(sky, task)


def test_the_founding_note_has_eight_commands_with_both_ways_to_write_an_option():
    assert len({run_name(words) for words in COMMANDS}) == 8
    assert sum("--gpus" in words for words in COMMANDS) == 1


@pytest.mark.parametrize("words", COMMANDS, ids=run_name)
def test_a_founding_command_is_a_valid_skypilot_task(words: list[str], capsys):
    typed = type_command(capsys, "launch", *words, "--dump-config", "yaml")
    assert (typed.code, typed.err) == (0, "")
    (data,) = yaml.safe_load_all(typed.out)
    task = as_sky(data)
    assert task.name == run_name(words)
    assert task.num_nodes == 1
    kinds = {(kind, count) for r in task.resources for kind, count in r.accelerators.items()}
    assert kinds == {("L4", 8), ("A10G", 8)}
    assert {r.use_spot for r in task.resources} == {True, False}
    recovery = next(iter(task.resources)).job_recovery
    assert recovery["strategy"] == "EAGER_NEXT_REGION"
    # SkyPilot counts wrong words among errors: run.sh says which of them are worth another start.
    assert (recovery["max_restarts_on_errors"], recovery["recover_on_exit_codes"]) == (0, [75])
    on_the_node = shlex.split(task.run.splitlines()[-1])
    assert words[0] in on_the_node
    assert {word for word in words if "=" in word and not word.startswith("--")} <= set(on_the_node)
    assert f"run={run_name(words)}" in on_the_node


@pytest.mark.parametrize("words", COMMANDS, ids=run_name)
def test_a_founding_command_can_be_planned_and_nothing_is_written(words: list[str], capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = type_command(capsys, "launch", *words, "--dry-run")
    assert typed.code == 0
    assert "2b" in typed.out
    assert "1 run: 1 new" in typed.out
    assert files_below(tmp_path) == {}


def test_what_a_node_types_resolves_to_the_config_that_was_planned(capsys):
    for words in COMMANDS:
        typed = type_command(capsys, "launch", *words, "--dry-run", "--json")
        (run,) = json.loads(typed.out)["runs"]
        recipe, *pairs = run["arguments"]
        again = recipe_specs(find_recipe(recipe), dict(pair.split("=", 1) for pair in pairs))[0]
        assert (again.run, again.agent_steps) == (run_name(words), 2_000_000_000)
        assert again.config.arm == run["arm"]


def test_the_founding_matrix_becomes_seventy_valid_tasks(capsys, tmp_path):
    typed = type_command(capsys, "launch", str(ROOT / "experiments.yaml"), "--dump-config", "json")
    tasks = [as_sky(data) for data in json.loads(typed.out)]
    assert len({task.name for task in tasks}) == 70
    assert all(r.use_spot for task in tasks for r in task.resources)
    folder = tmp_path / "tasks"
    typed = type_command(capsys, "launch", str(ROOT / "experiments.yaml"), "--render", str(folder), "--seeds", "1")
    assert typed.code == 0
    rendered = {file.stem: as_sky(yaml.safe_load(file.read_text())) for file in folder.iterdir()}
    assert len(rendered) == 14
    assert all(task.name == name for name, task in rendered.items())


def test_no_secret_is_shown_or_written(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "s3cr3t-key")
    for options in (["--dump-config", "yaml"], ["--dump-config", "json"], ["--dry-run"], ["--dry-run", "--json"]):
        typed = type_command(capsys, "launch", *COMMANDS[0], *options)
        assert typed.code == 0
        assert "s3cr3t" not in typed.out + typed.err
    assert type_command(capsys, "launch", *COMMANDS[0], "--render", str(tmp_path / "tasks")).code == 0
    written = files_below(tmp_path)
    assert len(written) == 2
    assert not any(b"s3cr3t" in (content or b"") for content in written.values())


def test_options_reach_the_task():
    resources = Resources(
        gpus=4,
        nodes=2,
        cpus=16,
        spot=False,
        infra="aws",
        max_runtime_hours=1.5,
        heartbeat_timeout_seconds=60,
        bucket="s3://mine/memexp",
    )
    data = make_task(spec(pattern="[S]"), resources, CODE)
    task = as_sky(data)
    assert task.num_nodes == 2
    assert {(r.cpus, r.use_spot, str(r.cloud), *r.accelerators.items()) for r in task.resources} == {
        ("16+", False, "AWS", ("L4", 4)),
        ("16+", False, "AWS", ("A10G", 4)),
    }
    assert task.envs["GIT_COMMIT_HASH"] == "c0ffee"
    assert task.envs["MEMEXP_MAX_RUNTIME_HOURS"] == "1.5"
    assert task.envs["MEMEXP_HEARTBEAT_SECONDS"] == "60"
    assert task.envs["MEMEXP_HOME"] in data["file_mounts"]
    assert "'pattern=[S]'" in task.run


def test_regions_and_kinds_and_markets_are_all_candidates_and_infra_pins_one():
    regions = ["aws/us-east-1", "gcp/us-central1"]
    spread = Resources(gpus=8, regions=regions)
    task = as_sky(make_task(spec(), spread, CODE))
    assert {(str(r.cloud), r.region, *r.accelerators, r.use_spot) for r in task.resources} == {
        (cloud, region, kind, spot)
        for cloud, region in (("AWS", "us-east-1"), ("GCP", "us-central1"))
        for kind in ("L4", "A10G")
        for spot in (True, False)
    }
    pinned = as_sky(make_task(spec(), Resources(gpus=8, regions=regions, infra="gcp"), CODE))
    assert {(str(r.cloud), r.region) for r in pinned.resources} == {("GCP", None)}


def test_an_unknown_region_of_a_matrix_file_is_named(capsys, tmp_path):
    file = tmp_path / "m.yaml"
    text = (ROOT / "experiments.yaml").read_text()
    file.write_text(text.replace("{gpus: 8, spot: true}", "{gpus: 8, regions: [awz/us-east-1]}"))
    typed = type_command(capsys, "launch", str(file), "--dry-run")
    assert typed.code == 2
    assert "unknown infrastructure 'awz'" in typed.err


def test_a_shared_folder_stands_for_a_bucket_and_variables_reach_the_node():
    shared = Resources(gpus=8, infra="slurm/mine", home="/shared/memexp", envs={"NCCL_SOCKET_IFNAME": "eth0"})
    task = as_sky(make_task(spec(), shared, CODE))
    assert (task.envs["MEMEXP_HOME"], task.envs["NCCL_SOCKET_IFNAME"]) == ("/shared/memexp", "eth0")
    with pytest.raises(UsageError, match="contradict each other"):
        Resources.parse({**shared.model_dump(), "bucket": "s3://a/b"})


def test_a_snapshot_is_sent_in_place_of_a_clone():
    asked = make_task(spec(), Resources(), CODE)
    assert as_sky(asked).workdir == {"url": "https://github.com/a/b", "ref": "c0ffee"}
    assert asked["envs"]["GIT_COMMIT_HASH"] == "c0ffee"
    task = as_sky(sent_along(asked, Install(Code("c0ffee", "", ("dirty",), "/tmp"), sent="/tmp")))
    assert (task.workdir, task.file_mounts) == ("/tmp", {"~/memexp_install": "/tmp"})
    assert not {"GIT_URL", "GIT_COMMIT_HASH"} & set(task.envs)


def test_rendering_twice_gives_the_same_files(capsys, tmp_path):
    folder = tmp_path / "tasks"
    for _ in range(2):
        before = files_below(folder) if folder.exists() else None
        assert type_command(capsys, "launch", str(ROOT / "experiments.yaml"), "--render", str(folder)).code == 0
        assert before in (None, files_below(folder))
    assert len(files_below(folder)) == 70


def test_a_node_gets_every_word_as_it_was_typed():
    ugly = "a b'c\"d$HOME `id` \\ ${MEMEXP_RUN} {arguments} {{x}} #%s"
    asked = spec(**{"labels.hardware": ugly, "labels.arm": "two\nlines", "pattern": '["S"]'})
    (data,) = yaml.safe_load_all(dump([make_task(asked, Resources(gpus=0), CODE)], "yaml"))
    line = as_sky(data).run.partition("cloud.node run ")[2]
    typed = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True).stdout
    assert typed.removesuffix("\0").split("\0") == asked.arguments


def test_cpu_runs_ask_for_no_accelerator():
    task = as_sky(make_task(spec(), Resources(gpus=0), CODE))
    (resource,) = task.resources
    assert (resource.accelerators, resource.cpus, resource.use_spot) == (None, "8+", False)


def test_what_skypilot_refuses_is_refused_with_its_reason():
    task = make_task(spec(), Resources(), CODE)
    with pytest.raises(UsageError, match=r"SkyPilot refuses the task 'a.run': .*did you mean 'num_nodes'"):
        validate([{**task, "nodes": 1}])
    assert validate([task]) is None
    assert "nodes" not in task


def test_what_skypilot_has_found_right_is_not_asked_for_again(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "memexp.launch.cloud.sky_task.to_sky", lambda sky, task: asked.append(task) or to_sky(sky, task)
    )
    one, other = (make_task(spec(run=name), Resources(), CODE) for name in ("a", "b"))
    for tasks in ([one], [one, other], [one]):  # they differ in name and words alone
        assert validate(tasks) is None
    assert len(asked) == 1
    for _ in range(2):
        with pytest.raises(UsageError):
            validate([one, {**one, "nodes": 1}])
    assert len(asked) == 3  # what is refused is asked for every time


@pytest.mark.parametrize("infra", [name for name in INFRA if name != "*"])
def test_skypilot_knows_every_infrastructure_that_is_offered(infra: str):
    Resources(infra=f"{infra}/somewhere")
    as_sky({"name": "a", "run": "true", "resources": {"infra": infra}})


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("awz/us-east-1", "aws"), ("slrum", "slurm"), ("kubernets", "kubernetes"), ("amazon", "aws"), ("Google", "gcp")],
)
def test_an_unknown_infrastructure_is_answered_with_the_nearest(word: str, nearest: str):
    for given in ({"infra": word}, {"regions": word}):
        with pytest.raises(UsageError, match=rf"unknown infrastructure .* slurm/CLUSTER\); did you mean '{nearest}'"):
            Resources.parse(given)


IMAGES = ["ami-0123", "docker:ubuntu:22.04", "docker:nvcr.io/nvidia/pytorch:25.09-py3", "skypilot:gpu-ubuntu-2204",
          "projects/deeplearning/global/images/a", "microsoft-dsvm:ubuntu-2004:2004-gen2:21.11.04"]  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        *({"image": image} for image in IMAGES),
        *({"bucket": bucket} for bucket in ("s3://a/b", "gs://a", "https://a.blob.core.windows.net/c")),
        *({"home": home} for home in ("/shared", "~/runs", "$SCRATCH/runs")),
        {"accelerators": "H100"}, {"regions": "aws/us-east-1"}, {"pip": "minigrid >= 3"},
        {"pip": ["mine @ git+https://github.com/me/mine@v1", "jax[cuda]==0.5"]},
    ],
    ids=str,
)  # fmt: skip
def test_right_resources_are_taken(given):
    assert Resources.parse(given)


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"image": "nvcr.io/nvidia/pytorch:25.09-py3"}, ["image: 'nvcr.io/.*' is no image: write docker:nvcr.io/"]),
        ({"image": "a b"}, ["image: 'a b' is no image: write docker:"]),
        ({"image": ""}, ["image: '' is no image: write docker:"]),
        ({"image": "docker:"}, ["image: 'docker:' is no image: write docker:"]),
        ({"bucket": "mybucket"}, ["bucket: 'mybucket' is no bucket, such as s3://mybucket"]),
        ({"home": "~/runs", "infra": "slurm/c"}, ["home: on Slurm ~ is a folder of the job.*such as /home/you/runs"]),
        ({"home": "shared/runs"}, ["home: 'shared/runs' is no folder of a node, such as /shared"]),
        ({"gpus": "x"}, [r"gpus: must be a whole number \(got 'x'\)"]),
        ({"gpus": [1], "spot": "maybe"}, ["gpus: must be a whole number", r"spot: must be true or false \(got"]),
        ({"max_runtime_hours": "1h"}, [r"max_runtime_hours: must be a number \(got '1h'\)"]),
        ({"envs": {"A": 1}}, [r"envs.A: must be text, in quotes \(got 1\)"]),
        ({"files": ["a"]}, ["files: must be names with values, such as {a: 1}"]),
        ({"setup": {"a": "b"}}, [r"setup: must be a list, such as \[a, b\]"]),
        (
            {"pip": ["not a name!", "minigrid>=3", "foo===", "lib=3"]},
            [
                f"pip.{n}: '{name}' is no package .* such as 'minigrid>=3.0'"
                for n, name in ((0, "not a name!"), (2, "foo==="), (3, "lib=3"))
            ],
        ),
    ],
    ids=str,
)
def test_wrong_resources_are_answered_with_the_form_that_is_expected(given, lines: list[str]):
    with pytest.raises(UsageError) as caught:
        Resources.parse(given)
    found = str(caught.value).splitlines()
    assert len(found) == len(lines)
    for line, pattern in zip(found, lines, strict=True):
        assert re.match(pattern, line)
        assert not re.search("pattern|Input|valid", line)


# Submission.


def test_without_an_api_server_the_command_says_so_and_writes_nothing(tmp_path):
    # A process of its own: SkyPilot remembers the address that it first asked.
    endpoint = {"SKYPILOT_API_SERVER_ENDPOINT": "http://127.0.0.1:9", "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    command = [sys.executable, "-m", "memexp", "launch", *COMMANDS[0]]
    environment = {**os.environ, **endpoint, "PYTHONPATH": str(ROOT)}
    typed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert typed.returncode == 1
    assert re.fullmatch(
        r"memexp: no SkyPilot API server answers .*`sky api start` and `sky check`.*nothing was submitted\n",
        typed.stderr,
    )
    assert files_below(tmp_path) == {}
