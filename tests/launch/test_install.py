"""What nodes get: the project, the packages of its lock file and memexp; what they could not have is named before."""

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from helpers.checkouts import checkout_at, commit, git
from helpers.commands import files_below, type_command

from memexp.config import UsageError
from memexp.launch.cloud.code import Code
from memexp.launch.cloud.install import SCRIPTS, Install, _wheel, check_install, find_install, modules_of
from memexp.launch.cloud.sky_task import make_task, to_sky
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.resources import Resources
from memexp.launch.plan.run_spec import recipe_specs
from memexp.project import ProjectFinder

ENV = "import gymnasium\nclass Colour(gymnasium.Env): ...\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A pushed project with an environment, in which commands are typed."""
    work = checkout_at(tmp_path)
    (work / "pyproject.toml").write_text('[project]\nname = "mine"\ndependencies = ["memexp"]\n[tool.memexp]\n')
    (work / "colours.py").write_text(ENV)
    commit(work)
    git(work, "push", "--quiet", "origin", "HEAD")
    monkeypatch.chdir(work)
    monkeypatch.setattr(ProjectFinder, "folders", [str(work)])
    yield work
    sys.modules.pop("colours", None)


def specs(env: str = "colours:Colour", **words: str):
    return recipe_specs(find_recipe("any"), {"run": "a", "env": env, **words})


def told(env: str = "colours:Colour", pip: tuple[str, ...] = (), modules: tuple[str, ...] = (), **words: str) -> str:
    """What is said against launching this environment; '' if nothing is."""
    runs = specs(env, **words)
    try:
        check_install(find_install(runs, pip, None), [*modules_of(runs), *modules])
    except UsageError as error:
        return str(error)
    return ""


def test_a_pushed_project_is_cloned_at_its_commit(project):
    install = find_install(specs(), (), None)
    assert (install.lock, install.folder, install.top) == ("pyproject.toml", ".", project)
    assert [one for one in install.code.problems if not one.startswith("memexp: ")] == []
    task = to_sky(__import__("sky"), make_task(specs()[0], Resources(gpus=0), install))
    head = git(project, "rev-parse", "HEAD").strip()
    assert task.workdir["ref"] == task.envs["GIT_COMMIT_HASH"] == head
    assert task.workdir["url"].endswith("remote.git")
    assert told() == ""
    assert any(f"nodes get work at {head[:10]}" in line for line in install.lines())


def test_a_project_in_a_folder_of_a_repository_runs_in_that_folder(project, monkeypatch):
    inner = project / "inner dir"
    inner.mkdir()
    git(project, "mv", "pyproject.toml", "colours.py", "inner dir")
    commit(project)
    monkeypatch.setattr(ProjectFinder, "folders", [str(inner)])
    install = find_install(specs(), (), None)
    assert (install.top, install.folder) == (project, "inner dir")
    task = make_task(specs()[0], Resources(gpus=0), install)
    assert "cd 'inner dir'" in task["run"]
    assert task["setup"].startswith("folder='inner dir'\n")


def test_a_run_of_memexp_alone_takes_no_files_of_the_folder_where_it_is_typed(tmp_path, monkeypatch):
    monkeypatch.setattr(ProjectFinder, "folders", [str(tmp_path)])
    (tmp_path / "colours.py").write_text(ENV)
    install = find_install(recipe_specs(find_recipe("tmaze"), {}), (), None)
    assert install.memexp == ""
    assert install.top != tmp_path


@pytest.mark.parametrize("lock", ["uv.lock", "requirements.txt", "pyproject.toml"])
@pytest.mark.parametrize("listed", [True, False])
def test_packages_that_runs_import_are_in_the_lock_file_or_are_named(project, lock, listed):
    name = "minigrid" if listed else "something"
    texts = {
        "uv.lock": f'version = 1\n[[package]]\nname = "{name}"\nversion = "3"\nsource = {{registry = "x"}}\n',
        "requirements.txt": f"# list\n--index-url https://x\n{name}>=3.0  # why\n",
        "pyproject.toml": f'[project]\nname = "mine"\ndependencies = ["{name}>=3"]\n[tool.memexp]\n',
    }
    (project / lock).write_text(texts[lock])
    git(project, "add", ".")
    said = told("minigrid.envs:MemoryEnv")
    assert (said == "") is listed
    if not listed:
        assert said.startswith("nodes cannot run this:\nminigrid, which the runs import, is in no list")
        assert told("minigrid.envs:MemoryEnv", pip=("minigrid>=3.0",)) == ""


@pytest.mark.parametrize("where", ["env", "wrapper", "import of the project", "module of gym:ID"])
def test_a_package_is_found_wherever_runs_import_it(project, where):
    if where == "import of the project":
        (project / "colours.py").write_text(f"from minigrid.envs import MemoryEnv\n{ENV}")
    words = {"wrappers": "['minigrid.wrappers:FullyObsWrapper']"} if where == "wrapper" else {}
    env = "minigrid.envs:MemoryEnv" if where == "env" else "colours:Colour"
    modules = ("minigrid.envs.memory",) if where == "module of gym:ID" else ()
    assert "minigrid, which the runs import" in told(env, modules=modules, **words)


@pytest.mark.parametrize(
    ("lock", "text", "named"),
    [
        (
            "uv.lock",
            '[[package]]\nname = "lib"\nsource = {{editable = "../lib"}}\n',
            "lib in uv.lock is the path ../lib",
        ),
        ("uv.lock", '[[package]]\nname = "lib"\nsource = {{directory = "/lib"}}\n', "lib in uv.lock is the path /lib"),
        ("uv.lock", '[[package]]\nname = "lib"\nsource = {{editable = "lib"}}\n', ""),
        ("uv.lock", '[[package]]\nname = "memexp"\nsource = {{editable = "../memexp"}}\n', ""),
        ("requirements.txt", "-e ../lib\n", "-e ../lib is the path ../lib"),
        ("requirements.txt", "../lib\n", "../lib is the path ../lib"),
        ("requirements.txt", "./lib\n", ""),
        ("requirements.txt", "-e ./gone\n", "-e ./gone: there is no "),
        ("requirements.txt", "not a req!!\n", "requirements.txt: 'not a req!!' is no requirement"),
        ("requirements.txt", "lib>=2 --hash=sha256:0 ; python_version > '3'\n", ""),
        ("requirements.txt", "lib @ file:///lib\n", "lib @ file:///lib is the path /lib"),
        (
            "pyproject.toml",
            '[project]\ndependencies = ["lib"]\n[tool.memexp]\n[tool.uv.sources]\nlib = {{path = "../lib"}}\n',
            "lib in [tool.uv.sources] is the path ../lib",
        ),
    ],
)
def test_a_package_from_a_path_of_this_machine_is_refused_by_name(project, lock, text, named):
    (project / lock).write_text(text.format())
    (project / "lib").mkdir()
    git(project, "add", ".")
    said = told()
    assert named in said
    assert bool(said) is bool(named)


@pytest.mark.parametrize(("version", "good"), [("3.12", True), ("3.13.1", True), ("3.99", False), ("pypy", False)])
def test_the_python_of_the_project_is_one_that_memexp_runs_on(project, version, good):
    (project / ".python-version").write_text(f"{version}\n")
    git(project, "add", ".")
    said = told()
    assert (said == "") is good
    assert good or "nodes need a Python " in said


def test_memexp_is_no_package_to_install(project):
    assert "resources.pip: memexp==0.2: nodes get memexp as it is here" in told(pip=("memexp==0.2",))


def test_what_a_folder_without_git_has_is_not_asked_for_where_runs_need_none_of_it(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "mine"\n[tool.memexp]\n')
    (tmp_path / "colours.py").write_text(ENV)
    monkeypatch.setattr(ProjectFinder, "folders", [str(tmp_path)])
    assert find_install(specs("gym:CartPole-v1"), (), None).top != tmp_path
    with pytest.raises(UsageError, match="is no git checkout with a commit"):
        check_install(find_install(specs(), (), None), modules_of(specs()))
    sys.modules.pop("colours", None)


def test_a_lock_file_that_nodes_would_not_get_or_that_is_out_of_date_is_named(project):
    (project / "requirements.txt").write_text("minigrid\n")
    assert "git does not know requirements.txt, so nodes would not get it" in told()
    (project / "uv.lock").write_text('[[package]]\nname = "numpy"\nsource = {registry = "x"}\n')
    (project / "pyproject.toml").write_text(
        '[project]\ndependencies = ["memexp", "Mini_Grid>=3", "numpy"]\n[tool.memexp]\n'
    )
    git(project, "add", ".")
    assert told() == "nodes cannot run this:\nuv.lock lacks Mini_Grid, which pyproject.toml lists: uv lock"


def test_a_file_that_git_does_not_know_or_that_is_elsewhere_is_refused_by_name(project, tmp_path, monkeypatch):
    (project / "shapes.py").write_text(ENV)
    assert "git does not know shapes.py" in told("shapes:Colour")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "elsewhere.py").write_text(ENV)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    (project / "colours.py").write_text(f"import elsewhere\n{ENV}")
    assert f"elsewhere is a file outside of {project}" in told()


def test_a_project_outside_of_git_is_refused(tmp_path, monkeypatch):
    (tmp_path / "colours.py").write_text(ENV)
    monkeypatch.setattr(ProjectFinder, "folders", [str(tmp_path)])
    assert "is no git checkout with a commit, so nodes cannot get your files" in told()


def installed(folder: Path, monkeypatch, url: str | None = None) -> None:
    """A package `paint` with a module, as an installer leaves it."""
    site = folder / "site-packages"
    info = site / "paint-1.0.dist-info"
    (site / "paint").mkdir(parents=True)
    info.mkdir()
    (site / "paint" / "__init__.py").write_text(ENV)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: paint\nVersion: 1.0\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "INSTALLER").write_text("pip\n")
    (info / "RECORD").write_text(
        "paint/__init__.py,,\n../bin/paint,,\npaint/__pycache__/x.pyc,,\n"
        + "".join(f"paint-1.0.dist-info/{name},,\n" for name in ("METADATA", "WHEEL", "INSTALLER", "RECORD"))
    )
    if url:
        (info / "direct_url.json").write_text(json.dumps({"url": url, "dir_info": {}}))
    monkeypatch.syspath_prepend(site)


@pytest.mark.parametrize("url", ["file:///home/me/paint", None, "https://github.com/me/paint"])
def test_a_package_that_was_installed_from_a_path_is_refused_by_name(project, tmp_path, monkeypatch, url):
    installed(tmp_path, monkeypatch, url)
    said = told("paint:Colour", pip=("paint",))
    assert said == (
        "nodes cannot run this:\npaint is installed here from /home/me/paint: nodes cannot get that"
        if url and url.startswith("file:")
        else ""
    )


def test_the_wheel_of_an_installed_package_is_made_of_its_files(tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch)
    folder = _wheel(distribution("paint"))
    assert _wheel(distribution("paint")) == folder
    (file,) = folder.iterdir()
    assert file.name == "paint-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file) as wheel:
        names = set(wheel.namelist())
        record = {row[0] for row in csv.reader(io.StringIO(wheel.read("paint-1.0.dist-info/RECORD").decode()))}
    info = "paint-1.0.dist-info"
    assert names == record == {"paint/__init__.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD"}


UV = '#!/bin/sh\n[ "$1" = export ] && echo minigrid==3.1.0\nprintf \'%s\\n\' "$*" >> uv_words\n'


@pytest.mark.parametrize(
    ("files", "lock", "words"),
    [
        (["uv.lock"], "uv.lock", "--requirement .venv/locked.txt"),
        (["requirements.txt"], "requirements.txt", "--requirement requirements.txt"),
        (["pyproject.toml"], "pyproject.toml", "--requirement pyproject.toml"),
        (["constraints.txt"], "constraints.txt", "--constraint constraints.txt --editable ."),
        ([], "", ""),
    ],
)
@pytest.mark.parametrize("sent", ["memexp-1-py3-none-any.whl", "pyproject.toml", ""])
def test_setup_installs_the_lock_file_and_memexp_with_uv_once(tmp_path, files, lock, words, sent):
    work, bin_ = tmp_path / "work", tmp_path / "bin"
    for folder in (work / ".venv" / "bin", bin_, tmp_path / "memexp_install"):
        folder.mkdir(parents=True)
    for name in files:
        (work / name).write_text("x\n")
    if sent:
        (tmp_path / "memexp_install" / sent).write_text("x\n")
    else:
        (tmp_path / "memexp_install").rmdir()
    for place, text in ((bin_ / "uv", UV), (work / ".venv" / "bin" / "python", "#!/bin/sh\n")):
        place.write_text(text)
        place.chmod(0o755)
    script = Install(Code("", "", ()), lock=lock, pip=("minigrid>=3.0", "a b")).script(["touch 'was here'", "false"])
    env = {**os.environ, "HOME": str(tmp_path), "PATH": f"{bin_}:/usr/bin:/bin"}
    for _ in range(2):
        done = subprocess.run(["bash", "-c", script], cwd=work, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr  # of `false`, the user's own command
    assert (work / "was here").exists()
    (line,) = [line for line in (work / "uv_words").read_text().splitlines() if line.startswith("pip install")]
    expected = ["pip install --quiet --python .venv/bin/python", *([words] if words else [])]
    if sent.endswith(".whl"):
        assert (
            (work / ".venv/memexp.txt").read_text().startswith(f"memexp @ file://{tmp_path}/memexp_install/memexp-1-")
        )
        expected.append("--override .venv/memexp.txt --requirement .venv/memexp.txt")
    elif sent:
        expected.append(f"--editable {tmp_path}/memexp_install")
    assert line == " ".join([*expected, "minigrid>=3.0 a b"])


def test_nodes_get_the_libraries_of_the_loggers(project):
    runs = [*specs(loggers="csv,tensorboard"), *specs(loggers="mlflow,wandb")]
    install = find_install(runs, ["minigrid"], None)
    assert install.pip == ("minigrid", "tensorboard", "mlflow-skinny", "sqlalchemy", "alembic")


def test_pip_files_image_and_setup_reach_the_task(project, tmp_path):
    (tmp_path / "data").mkdir()
    resources = Resources(
        gpus=0,
        pip=["minigrid>=3.0"],
        files={"/data/one": "s3://mine/data", "~/two": str(tmp_path / "data"), "/data/three": "a.txt"},
        image="docker:nvcr.io/nvidia/pytorch:25.09-py3",
        setup=["apt-get install -y libgl1"],
    )
    data = make_task(specs()[0], resources, find_install(specs(), resources.pip, None))
    assert data["file_mounts"] == {
        "/data/one": "s3://mine/data",
        "~/two": str(tmp_path / "data"),
        "/data/three": str(project / "a.txt"),
    }
    assert {one["image_id"] for one in data["resources"]["any_of"]} == {resources.image}
    assert data["setup"].rstrip().endswith("apt-get install -y libgl1")
    assert "packages=('minigrid>=3.0')" in data["setup"]
    assert resources.lines()[:2] == [
        f"  they get s3://mine/data as /data/one, {tmp_path}/data as ~/two, a.txt as /data/three",
        "  they run apt-get install -y libgl1",
    ]


@pytest.mark.parametrize(
    ("resources", "named"),
    [
        ({"pip": ["-e ."]}, "'-e .' is no package"),
        ({"pip": ["../lib"]}, "'../lib' is no package"),
        ({"pip": ["lib @ file:///lib"]}, "is no package"),
        ({"files": {"data": "s3://a/b"}}, "'data' is no path on a node"),
        ({"files": {"/mnt/memexp": "s3://a/b"}}, "'/mnt/memexp' is no path on a node"),
        ({"setup": ["export HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz123456"]}, "a secret"),
        ({"setup": "ls; if"}, "bash cannot read 'ls; if': .*syntax error"),
        ({"image": "a b"}, "image"),
        ({"fils": {}}, "did you mean 'files'"),
    ],
)
def test_what_cannot_be_right_in_resources_is_named(resources, named):
    with pytest.raises(UsageError, match=named):
        Resources.parse(resources)


def test_a_file_to_send_that_is_not_there_is_named(project):
    with pytest.raises(UsageError, match=r"resources.files: /data: there is no .*work/nothing"):
        make_task(specs()[0], Resources(gpus=0, files={"/data": "nothing"}), find_install(specs(), (), None))


def test_the_plan_says_what_nodes_get_and_a_launch_that_cannot_run_there_stops(project, capsys, home):
    (project / "m.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "m",
                "environments": {"grid": {"recipe": "any", "args": {"env": "minigrid.envs:MemoryEnv"}}},
                "architectures": {"S": {"pattern": "S"}},
                "steps": "1k",
                "seeds": 1,
            }
        )
    )
    before = files_below(home) if home.exists() else {}
    for options in (["--dry-run"], [], ["--dump-config", "yaml"], ["--skip-git-check"]):
        typed = type_command(capsys, "launch", "m.yaml", *options)
        assert typed.code == 2
        assert "minigrid, which the runs import, is in no list of packages that nodes install" in typed.err
        assert ("to launch (" in typed.out) is (options == ["--dry-run"])
    assert (files_below(home) if home.exists() else {}) == before
    (project / "requirements.txt").write_text("minigrid\n")
    git(project, "add", ".")
    typed = type_command(capsys, "launch", "m.yaml", "--dry-run")
    assert typed.code == 0, typed.err
    assert "they install requirements.txt" in typed.out
    assert "are not committed: a launch needs --skip-git-check" in typed.err


def test_the_scripts_of_a_node_are_in_the_package():
    assert {file.name for file in SCRIPTS.glob("*.*")} == {
        "task.yaml", "setup.sh", "run.sh", "preflight.sh", "watch.sh",
    }  # fmt: skip
