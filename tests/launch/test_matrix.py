"""A matrix file becomes one run a matrix cell, each with a name of its own; a mistake is named with file and place."""

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from memexp import strict_yaml
from memexp.config import UsageError, count_name, parse_value
from memexp.launch.plan.expand import expand
from memexp.launch.plan.matrix import Matrix, Seeds, load_matrix
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.run_spec import resolve
from memexp.pattern import remembers

ROOT = Path(__file__).parents[2]
few = settings(max_examples=20)


def matrix(**changes: Any) -> dict[str, Any]:
    """A small valid matrix file, as data."""
    return {
        "name": "small",
        "environments": {"maze": {"recipe": "tmaze"}, "cue": {"recipe": "tmaze_cue", "args": {"length": 4}}},
        "architectures": {"X0": {"pattern": "X", "mem_len": 0}, "S": {"pattern": "S"}},
        "steps": ["10k"],
        "seeds": 2,
        **changes,
    }


def specs_of(**changes: Any):
    return expand(Matrix.parse(matrix(**changes)))


def test_the_founding_matrix_is_two_environments_times_four_architectures_and_three_twins_times_five_seeds():
    found = load_matrix(ROOT / "experiments.yaml")
    specs = expand(found)
    assert len(specs) == 2 * (4 + 3) * 5 == 70
    assert {spec.agent_steps for spec in specs} == {2_000_000_000}
    assert (found.resources.gpus, found.resources.spot) == (8, True)
    twins = {spec.config.labels.arm for spec in specs if spec.config.cortex.memory == "off"}
    assert twins == {"xl_memlen128~", "sLSTM~", "AgSA~"}


@pytest.mark.parametrize("file", sorted(ROOT.glob("experiments/*.yaml")), ids=lambda file: file.stem)
def test_every_matrix_file_of_the_repository_expands(file: Path):
    found = load_matrix(file)
    assert expand(found)
    for scale in found.scales:
        assert expand(found.at_scale(scale))


architectures = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.fixed_dictionaries({"pattern": st.sampled_from(["X", "S", "AgSA"]), "mem_len": st.sampled_from([0, 16])}),
    min_size=1,
)
steps = st.lists(st.sampled_from(["1k", "1m", 1500, "2b"]), min_size=1, max_size=3, unique=True)


@few
@given(architectures, steps, st.integers(1, 4), st.booleans())
def test_a_matrix_has_one_run_for_each_combination_and_one_more_for_each_twin(archs, counts, seeds, twins):
    specs = specs_of(architectures=archs, steps=counts, seeds=seeds, twins=twins)
    having = sum(remembers(arch["pattern"], arch["mem_len"]) for arch in archs.values())
    assert len(specs) == 2 * (len(archs) + having * twins) * len(counts) * seeds
    assert len({spec.run for spec in specs}) == len(specs)
    assert all("~" not in spec.run for spec in specs)


@few
@given(architectures, st.booleans())
def test_the_arguments_of_a_run_are_all_that_a_node_needs_to_train_it(archs, twins):
    for spec in specs_of(architectures=archs, seeds=1, twins=twins, overrides={"trainer.learning_rate": 1e-5}):
        again = dict(argument.split("=", 1) for argument in spec.arguments[1:])
        assert resolve(find_recipe(spec.recipe), again) == spec.config


@few
@given(architectures)
def test_a_twin_differs_from_its_arm_in_its_memory_alone(archs):
    specs = {(spec.env, spec.config.arm): spec.config for spec in specs_of(architectures=archs, seeds=1)}
    for (env, arm), config in specs.items():
        if arm.endswith("~"):
            with_memory = specs[env, arm.removesuffix("~")]
            twin = config.model_dump() | {"run": None, "labels": None}
            twin["cortex"]["memory"] = "on"
            assert twin == with_memory.model_dump() | {"run": None, "labels": None}


def test_a_run_carries_its_place_in_its_labels():
    spec = next(spec for spec in specs_of() if spec.run == "small.cue_S-off_10k.s1")
    config = spec.config
    assert (config.labels.matrix, config.labels.env, config.labels.arm) == ("small", "cue", "S~")
    assert (config.seed, config.cortex.memory, config.env.length) == (1, "off", 4)  # type: ignore[union-attr]


STATED = {"ceiling_return": 500.0, "solved_return": 475.0, "partner": "cue", "memory_span": 3}


@pytest.mark.parametrize("keys", [[], ["ceiling_return"], ["solved_return", "partner"], list(STATED)])
def test_what_a_matrix_states_of_a_task_is_in_the_labels_of_its_runs(keys):
    stated = {key: STATED[key] for key in keys}
    environments = {"maze": {"recipe": "tmaze", **stated}, "cue": {"recipe": "tmaze_cue"}}
    for spec in specs_of(environments=environments):
        assert spec.config.labels.stated == (stated if spec.env == "maze" else {})


@pytest.mark.parametrize("name", ["none", "None", "off", "true", "nan", "5", "1e3", "auto"])
def test_any_word_may_name_an_environment_or_an_architecture(name: str):
    table = {"environments": {name: {"recipe": "tmaze"}}, "architectures": {name: {"pattern": "S"}}}
    spec = specs_of(**table, seeds=1, twins=False)[0]
    labels = resolve(find_recipe(spec.recipe), dict(spec.overrides)).labels
    assert (labels.env, labels.arm) == (name, name)


def test_overrides_reach_all_runs_and_scales_change_the_matrix_under_another_name():
    changes = {"seeds": 1, "steps": "1k", "overrides": {"trainer.horizon": 8}, "resources": {"gpus": 2}}
    tried = {"tune": {"trainer.gamma": [0.9, 0.99]}, "tuning": {"steps": "5k", "seeds": 3}}
    tuned = Matrix.parse(matrix(**tried, scales={"tiny": {"tuning": {"steps": "2k"}}})).at_scale("tiny").tuning
    assert (tuned.steps, tuned.seeds) == (2000, 3)
    small = Matrix.parse(matrix(scales={"tiny": changes}, overrides={"d_hidden": 16})).at_scale("tiny")
    specs = expand(small)
    assert {(c.config.trainer.horizon, c.config.cortex.d_hidden, c.agent_steps) for c in specs} == {(8, 16, 1000)}
    assert {c.config.labels.matrix for c in specs} == {"small-tiny"}
    assert small.resources.gpus == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["wandb"]),
        ({"loggers": "csv"}, ["csv"]),
        ({"loggers": []}, []),
        ({"loggers": ["csv", "mlflow"], "overrides": {"loggers": ["tensorboard"]}}, ["tensorboard"]),
    ],
)
def test_loggers_of_a_matrix_are_those_of_its_runs(changes, expected):
    for spec in specs_of(**changes):
        words = dict(argument.split("=", 1) for argument in spec.arguments[1:])
        assert spec.config.loggers == resolve(find_recipe(spec.recipe), words).loggers == expected


KEYS = {"env": ["maze", "cue"], "arch": ["X0", "S"], "memory": ["on", "off"], "seed": ["0", "1"]}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in KEYS.items() for value in values])
def test_selecting_and_excluding_the_same_runs_split_the_matrix(key: str, value: str):
    every = {spec.run for spec in specs_of()}
    selected = {spec.run for spec in expand(Matrix.parse(matrix()), select=[f"{key}={value}"])}
    rest = {spec.run for spec in specs_of(exclude=[{key: value}])}
    assert selected | rest == every
    assert not selected & rest
    assert selected


def test_selections_of_one_key_add_up_and_those_of_several_keys_narrow():
    def runs(*select: str) -> set[str]:
        return {spec.run for spec in expand(Matrix.parse(matrix()), select=select)}

    assert runs("seed=0,1") == runs("seed=0", "seed=1") == runs()
    assert runs("arch=S", "env=cue") == runs("arch=S") & runs("env=cue")
    for text in ("env=cue,arch=S", "arch=S env=cue", "arch=S, env=cue", " env=cue,arch=S,S "):
        assert runs(text) == runs("arch=S", "env=cue")
    assert runs("seed=0,1,arch=S,X0") == runs("arch=S", "arch=X0")
    assert runs("arm=S~") == runs("arch=S", "memory=off")
    assert runs("steps=10k") == runs("steps=10000") == runs()


@few
@given(st.permutations(list(itertools.chain(["env", "arch", "steps", "seed"]))))
def test_a_template_that_names_every_axis_gives_every_run_its_own_name(order):
    template = "r." + ".".join(f"{{{key}}}x" for key in order)
    specs = specs_of(run=template, steps=["1k", "2k"])
    assert len({spec.run for spec in specs}) == len(specs) == 2 * 3 * 2 * 2
    assert all(count_name(spec.agent_steps) in spec.run for spec in specs)


WRONG = {
    "unknown key": ({"environment": {}}, "unknown key 'environment'; did you mean 'environments'"),
    "unknown key inside": (
        {"environments": {"maze": {"recipee": "tmaze"}}},
        "environments.maze: unknown key 'recipee'; did you mean 'recipe'",
    ),
    "unknown partner": (
        {"environments": {"maze": {"recipe": "tmaze", "partner": "ceu"}, "cue": {"recipe": "tmaze_cue"}}},
        "environments.maze.partner: 'ceu' is no other environment; did you mean 'cue'",
    ),
    "itself as partner": (
        {"environments": {"maze": {"recipe": "tmaze", "partner": "maze"}}},
        "environments.maze.partner: 'maze' is no other environment: the matrix has no other environment",
    ),
    "solved above the ceiling": (
        {"environments": {"maze": {"recipe": "tmaze", "ceiling_return": 1, "solved_return": 2}}},
        "environments.maze: solved_return 2 is above ceiling_return 1",
    ),
    "solved above the ceiling of the arguments": (
        {"environments": {"pole": {"recipe": "any", "args": {"ceiling_return": 475.5}, "solved_return": 475.75}}},
        "solved_return 475.75 is above ceiling_return 475.5",
    ),
    "solved above the ceiling within the arguments": (
        {"environments": {"pole": {"recipe": "any", "args": {"ceiling_return": -2, "solved_return": -1}}}},
        "solved_return -1 is above ceiling_return -2",
    ),
    "solved above the ceiling of dotted keys": (
        {
            "environments": {"pole": {"recipe": "any", "args": {"env.ceiling_return": 1}}},
            "overrides": {"labels.solved_return": 2},
        },
        "solved_return 2 is above ceiling_return 1",
    ),
    "a ceiling that is no number": (
        {"environments": {"maze": {"recipe": "tmaze", "ceiling_return": "high"}}},
        "environments.maze.ceiling_return: ",
    ),
    "an infinite ceiling": (
        {"environments": {"maze": {"recipe": "tmaze", "ceiling_return": float("inf")}}},
        "environments.maze.ceiling_return: ",
    ),
    "a negative span": (
        {"environments": {"maze": {"recipe": "tmaze", "memory_span": -1}}},
        "environments.maze.memory_span: ",
    ),
    "unknown resource": ({"resources": {"gpu": 1}}, "resources: unknown key 'gpu'; did you mean 'gpus'"),
    "a kind with its number": ({"resources": {"accelerators": ["A100:8"]}}, "'A100:8' .*: write A100, and gpus: 8"),
    "an unknown kind": ({"resources": {"accelerators": ["L4", "A1000"]}}, "unknown kind of GPU 'A1000'; did you mean"),
    "an empty kind": ({"resources": {"accelerators": [""]}}, "unknown kind of GPU ''"),
    "a driver's name": ({"resources": {"accelerators": ["NVIDIA L4"]}}, "of GPU 'NVIDIA L4'; did you mean 'L4'"),
    "a name with a space on a cluster": (
        {"resources": {"accelerators": ["my gpu"], "infra": "slurm/a"}},
        "unknown kind of GPU 'my gpu'",
    ),
    "an arm called null": ({"architectures": {"Null": {"pattern": "S"}}}, "the name 'Null' stands for no name"),
    "a matrix called null": ({"name": "null"}, "the name 'null' stands for no name"),
    "negative gpus": ({"resources": {"gpus": -1}}, "resources.gpus: .*greater than or equal to 0"),
    "spot where none is": ({"resources": {"infra": "slurm/a", "spot": True}}, "slurm/a has no spot"),
    "unknown recipe": ({"environments": {"maze": {"recipe": "tmase"}}}, r"environments.maze.recipe: .*controls.tmaze'"),
    "unknown argument": (
        {"architectures": {"S": {"patern": "S"}}},
        "run env=maze arch=S steps=10k seed=0: unknown argument 'patern'.*'pattern'",
    ),
    "unknown pattern": ({"architectures": {"Z": {"pattern": "AgZA"}}}, "run env=maze arch=Z .*: .*no token at 'Z'"),
    "no environment": ({"environments": {}}, "environments: .*at least 1"),
    "no seed": ({"seeds": 0}, "seeds: 0 seeds give no run; 1 is seed 0 alone"),
    "a seed twice": ({"seeds": [1, 1]}, "names one twice"),
    "a thousand million seeds": ({"seeds": 10**9}, "seeds: .*less than or equal to 2000"),
    "many runs": ({"seeds": 1000}, "the matrix has up to 8,000 runs; 2,000 is the most"),
    "too many seeds of a scale": ({"scales": {"s": {"seeds": 10**9}}}, "scales.s.seeds: .*less than or equal to 2000"),
    "too many seeds of pilots": ({"pilots": {"seeds": 10**9}}, "pilots.seeds: .*less than or equal to 2000"),
    "a boolean for a number": ({"resources": {"gpus": True}}, "resources: gpus: true is not a number"),
    "a boolean for seeds": ({"seeds": True}, "seeds: true is not a number"),
    "a boolean for steps": ({"steps": [True]}, r"steps\.0: true is not a number"),
    "more steps than can be": ({"steps": [10**24]}, r"steps\.0: .*less than or equal to 1000000000000000"),
    "a format in a format": ({"run": "a{seed:{name}}"}, "the format '{name}' is nested or too wide"),
    "a wide format": ({"run": "a{seed:>99999999}"}, "the format '>99999999' is nested or too wide"),
    "a precise format": ({"run": "a{seed:.99999999f}"}, "the format '.99999999f' is nested or too wide"),
    "a format with a long width": ({"run": "a{seed:" + "9" * 5000 + "}"}, "run: .*at most 120 characters"),
    "a name of control characters": ({"name": "a\x1b[2J", "run": "a.s{seed}"}, "name: .*cannot be printed"),
    "a name with NUL": ({"name": "a\0b"}, "name: .*cannot be printed"),
    "a long name": ({"name": "x" * 90_000}, "name: .*at most 120 characters"),
    "a long file": ({"name": "x" * 10**7}, "there are more than 100,000 characters"),
    "a long variable": ({"vars": {"v": "x" * 90_000}}, "vars.v: .*at most 120 characters"),
    "negative steps": ({"steps": [-5]}, r"steps\.0: .*greater than 0"),
    "steps that are none": ({"steps": ["many"]}, "steps.0: .*whole number"),
    "unknown template key": ({"run": "{name}.{envv}"}, "run: unknown key 'envv' in the template; did you mean 'env'"),
    "broken template": ({"run": "{name"}, "run: the template '{name' is broken"),
    "template with an index": ({"run": "{name[x]}"}, r"run: the template '{name\[x\]}' is broken"),
    "bad run name": ({"run": "{name}/{env}.{arch}.{seed}"}, "contains '/'; did you mean 'small-maze.X0.0'"),
    "duplicate names": (
        {"run": "{name}.{env}_{arch}"},
        r"two runs are called 'small.maze_X0': \(env=maze arch=X0 steps=10k seed=0\) and .*seed=1\)",
    ),
    "the same steps twice": ({"steps": ["10k", 10_000]}, "two runs are called"),
    "exclude key": ({"exclude": [{"architecture": "S"}]}, r"exclude\.0: unknown key 'architecture'.*'arch'"),
    "exclude nothing": (
        {"exclude": [{"arch": "X0"}, {"arch": "SS"}]},
        r"exclude\.1 matches no run.*did you mean 'S'",
    ),
    "exclude without keys": ({"exclude": [{}]}, r"exclude\.0: the entry is empty"),
    "exclude everything": ({"exclude": [{"env": ["maze", "cue"]}]}, "exclude leaves none of 12 runs"),
    "name in architecture": ({"architectures": {"S~": {"pattern": "S"}}}, "the name 'S~' may have"),
    "a key of the matrix": ({"overrides": {"seed": 3}}, "overrides: 'seed' is set by the matrix: use `seeds`"),
    "variable that is taken": ({"vars": {"env": "x"}}, "'env' cannot be a variable"),
    "a control with memory": (
        {"architectures": {"S": {"pattern": "S"}, "C": {"pattern": "S", "twin_of": "S"}}},
        "architectures.C: a twin \\(twin_of\\) has no memory",
    ),
    "scale tuning": ({"scales": {"s": {"tuning": {"step": 1}}}}, "scales.s.tuning: unknown key 'step'; .*'steps'"),
    "scale resource": ({"scales": {"s": {"resources": {"gpu": 1}}}}, "scales.s.resources: unknown key 'gpu'"),
}


@pytest.mark.parametrize(("changes", "named"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_in_a_matrix_is_one_line_that_names_file_and_place(tmp_path, changes: dict[str, Any], named: str):
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(matrix(**changes), sort_keys=False))
    with pytest.raises(UsageError, match=named) as caught:
        expand(load_matrix(file), str(file))
    assert str(caught.value).startswith(f"{file}: ")
    assert str(caught.value).count(str(file)) == 1
    assert len(str(caught.value).splitlines()) == 1


def test_sections_without_a_value_count_as_left_out(tmp_path):
    file = tmp_path / "commented.yaml"
    file.write_text(
        "name: small\nenvironments:\n  maze:\n    recipe: tmaze\n    args:\n      # length: 4\n"
        "architectures:\n  S:\nsteps: [1k]\nseeds:\nvars:\noverrides:\nexclude:\nscales:\npilots:\n"
        "resources:\n  gpus:\n"
    )
    assert load_matrix(file) == Matrix.parse(
        {"name": "small", "environments": {"maze": {"recipe": "tmaze"}}, "architectures": {"S": {}}, "steps": 1000}
    )


@pytest.mark.parametrize(
    "place", ["overrides: {}", "architectures: {{S: {}}}", "environments: {{m: {{recipe: tmaze, args: {}}}}}"]
)
def test_memory_off_needs_no_quotes(tmp_path, place: str):
    changed = {key: value for key, value in matrix(seeds=1).items() if key != place.partition(":")[0]}
    file = tmp_path / "off.yaml"
    file.write_text(yaml.safe_dump(changed) + place.format("{cortex.memory: off}"))
    assert {spec.config.cortex.memory for spec in expand(load_matrix(file))} == {"off"}


@pytest.mark.parametrize(
    ("seeds", "listed"), [("1", [0]), ("[0]", [0]), ("[7]", [7]), ("3", [0, 1, 2]), ("2e0", [0, 1])]
)
def test_seeds_are_a_number_of_seeds_or_a_list_even_of_one(seeds: str, listed: list[int]):
    assert Matrix.parse(matrix(seeds=strict_yaml.read(seeds))).seed_list == listed
    assert Matrix.parse(matrix(seeds=parse_value(seeds, Seeds, "--seeds"))).seed_list == listed


@pytest.mark.parametrize(
    ("select", "named"),
    [
        ("arch", "--select arch is not KEY=VALUE"),
        ("=S", "--select =S is not KEY=VALUE"),
        ("S,env=cue", "--select S,env=cue is not KEY=VALUE"),
        ("env=cue,arch=XX", "--select env=cue arch=XX: there is no arch 'XX'"),
        ("env=cue,arc=S", "--select: unknown key 'arc'; did you mean 'arch'"),
        ("arc=S", "--select: unknown key 'arc'; did you mean 'arch'"),
        ("arch=XX", "--select arch=XX: there is no arch 'XX'"),
        ("seed=9", "there is no seed '9'"),
    ],
)
def test_a_selection_that_matches_nothing_is_refused(select: str, named: str):
    with pytest.raises(UsageError, match=named):
        expand(Matrix.parse(matrix()), select=[select])


def test_selections_that_match_nothing_together_are_refused():
    with pytest.raises(UsageError, match="arch=X0 memory=off together match no run"):
        expand(Matrix.parse(matrix()), select=["arch=X0", "memory=off"])


def test_a_missing_file_is_answered_with_the_nearest(tmp_path, monkeypatch):
    (tmp_path / "demo.yaml").write_text("name: demo")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"there is no matrix file demos.yaml; did you mean 'demo.yaml'"):
        load_matrix("demos.yaml")


def test_a_pipe_is_no_matrix_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UsageError, match=r"pipe.yaml is no matrix file: it is a pipe or a device$"):
        load_matrix(tmp_path / "pipe.yaml")


def test_an_unknown_scale_is_answered_with_the_nearest():
    found = Matrix.parse(matrix(scales={"smoke": {}}))
    with pytest.raises(UsageError, match="unknown scale 'smok'; did you mean 'smoke'"):
        found.at_scale("smok")


# A twin of one's own.


CONTROL = {"pattern": "S", "cortex.memory": "off", "twin_of": "S"}


def test_a_control_is_a_twin_of_its_architecture_and_gets_no_twin_of_its_own():
    specs = specs_of(architectures={"S": {"pattern": "S"}, "S_ctrl": CONTROL}, seeds=1)
    assert [spec.config.arm for spec in specs] == ["S", "S~", "S_ctrl"] * 2
    assert [spec.config.labels.twin_of for spec in specs] == [None, None, "S"] * 2
    assert {spec.config.cortex.memory for spec in specs if spec.config.arm == "S_ctrl"} == {"off"}
    only = specs_of(
        architectures={"S": {"pattern": "S"}, "C": {"pattern": "X", "mem_len": 0, "twin_of": "S"}}, twins=False
    )
    assert {spec.config.arm for spec in only} == {"S", "C"}


@pytest.mark.parametrize(
    ("control", "why"),
    [
        ({**CONTROL, "twin_of": "s"}, "architectures.C: twin_of: there is no other architecture 's'; did you mean 'S'"),
        ({**CONTROL, "twin_of": "C"}, "there is no other architecture 'C'"),
        ({**CONTROL, "twin_of": "S~"}, "there is no other architecture 'S~'; did you mean 'S'"),
        ({**CONTROL, "twin_of": None}, "there is no other architecture 'None'"),
        ({"pattern": "S", "twin_of": "S"}, "architectures.C: a twin .twin_of. has no memory: set cortex.memory: off"),
        ({"pattern": "X", "mem_len": 8, "twin_of": "S"}, "architectures.C: a twin"),
        ({"pattern": "S", "labels.twin_of": "S"}, "'labels.twin_of' is set by the matrix: use `twin_of`"),
    ],
)
def test_a_control_that_cannot_be_one_is_named(control, why):
    with pytest.raises(UsageError, match=why):
        specs_of(architectures={"S": {"pattern": "S"}, "C": control})
