"""What the documentation names exists: commands, options, config keys, links, anchors, files, modules and tests."""

import re
import runpy
import shlex
import textwrap
from functools import cache
from pathlib import Path

import pytest
import typer
from helpers.training import TINY, tiny, tiny_assembly, tiny_cvc

import memexp
from memexp import strict_yaml
from memexp.analysis.verdicts import MemoryCause
from memexp.cli import app, main
from memexp.cli.common import config_of
from memexp.cli.listing import list_rows
from memexp.config import override, parse_overrides
from memexp.envs.config import ENVIRONMENTS
from memexp.launch.plan.expand import expand
from memexp.launch.plan.matrix import Matrix
from memexp.launch.status.monitor.draw import MARKS
from memexp.ppo.config import TrainConfig
from memexp.ppo.train import train
from memexp.project import ProjectFinder
from memexp.recipes.any import train as any_recipe
from memexp.runs.loggers import LOGGERS, is_installed

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    + [page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "api"]
)
CURRENT = [page for page in PAGES if page.parent.name != "log" and page.name != "CHANGELOG.md"]
"""Pages about the code as it is; log and changelog keep the names of their day."""
WIDTH = 110
FOREIGN = {"libcudart", "butterfly", "pistonball_v6", "gcloud", "rclone", "RESOURCE_gained"}
"""Names of other projects, and of columns, that stand nowhere in our code."""
LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def each(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=name_of)


def text_of(page: Path) -> str:
    """The page without the tables that are made from docstrings."""
    return page.read_text().partition("<!-- The tables below are written by")[0]


def outside_of_code(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


def inline_code(page: Path) -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", outside_of_code(page))]


def command_lines(page: Path) -> list[str]:
    """Lines of ```bash blocks, comments left out, continued lines joined; inline code that starts with a program."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"\s#.*", "", line) for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [code for code in inline_code(page) if code.split()[0] in ("memexp", "python", "make")]
    return [part.strip() for line in lines for part in line.split("&&") if part.strip()]


@cache
def options() -> dict[str, set[str]]:
    """Command -> its options."""
    return {
        name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
    }


def wrong_words(line: str) -> list[str]:
    """What a command line names that does not exist: commands, options, make targets, files and options of scripts."""
    program, *words = shlex.split(line, comments=True)
    words = [word.strip("[]") for word in words]
    if program == "make":
        targets = set(re.findall(r"^([\w.$()/]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
        targets = {target.replace("$(VENV)", ".venv") for target in targets}
        return [f"make {word}" for word in words if "=" not in word and word not in targets]
    given = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    if program == "python":
        script = ROOT / words[0]
        if not script.is_file():
            return [words[0]]
        return [f"{words[0]} {option}" for option in given if f'"{option}"' not in script.read_text()]
    if program != "memexp" or not words:
        return []
    known = options()
    if words[0] in ("--help", "--version"):
        return []
    if words[0] not in known:
        return [f"memexp {words[0]}"]
    return [f"memexp {words[0]} {option}" for option in given if option not in known[words[0]]]


@each(CURRENT)
def test_every_command_and_option_exists(page):
    assert [wrong for line in command_lines(page) for wrong in wrong_words(line)] == []


def test_commands_and_options_that_do_not_exist_are_found():
    assert wrong_words("memexp lunch demo") == ["memexp lunch"]
    assert wrong_words("memexp launch demo --dryrun -t 3 --gpus=8") == ["memexp launch --dryrun"]
    assert wrong_words("make demonstration") == ["make demonstration"]
    assert wrong_words("python benchmarks/train.py --clok cpu") == ["benchmarks/train.py --clok"]
    assert wrong_words("memexp launch experiments.yaml --dry-run") == []


def misunderstood(line: str) -> str:
    """What memexp says against a command line of a page; '' if it understands it. Nothing is trained or launched."""
    program, *words = shlex.split(line)
    words = [word.strip("[]") for word in words]
    if program != "memexp" or len(words) < 2 or words == ["launch", "pilots"]:  # a name, no command line
        return ""
    name, *given = words
    try:
        arguments = typer.main.get_command(app).commands[name].make_context(name, list(given)).params  # type: ignore[attr-defined]
        meant = [word for words in arguments.values() if isinstance(words, list) for word in words]
        if any(re.search(r"\b[A-Z]{3,}\b", word.partition("=")[2] or word) for word in meant):  # RECIPE, pattern=TOKEN
            return ""
        if name in ("train", "doctor", "bench") and "--policy" not in line:
            config_of(arguments["recipe"])
        elif name in ("play", "funnel") and (env := meant[0]) in ENVIRONMENTS:
            override(ENVIRONMENTS[env](), parse_overrides(word for word in meant if "=" in word))
        elif name == "list":
            list_rows(arguments["what"], arguments["overrides"] or [])
    except Exception as error:
        return f"{line}: {error}"
    if name != "launch" or not meant or (meant[-1].endswith(".yaml") and not Path(meant[-1]).exists()):
        return ""
    return "" if main([name, *given, *([] if "--dump-config" in given else ["--dry-run"])]) == 0 else line


@each(CURRENT)
def test_every_command_line_is_understood_when_it_is_typed(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in ("given", "folders"):  # the pages tell of the project that `memexp init` writes
        monkeypatch.setattr(ProjectFinder, name, [str(ROOT / "memexp" / "template")])
    assert [why for line in command_lines(page) if (why := misunderstood(line))] == []


@pytest.mark.parametrize(
    "line",
    [
        "memexp launch experiments.yaml --budget much",
        "memexp launch experiments.yaml --select arch=none",
        "memexp train tmaze patern=S",
        "memexp train tmaze trainer.num_env=8",
        "memexp list patterns d_hiden=3",
        "memexp play tmaze lenght=5",
        "memexp logs a b",
    ],
)
def test_command_lines_that_memexp_does_not_understand_are_found(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert misunderstood(line) != ""


@each(CURRENT)
def test_every_option_that_is_named_alone_exists(page):
    known = {option for of_command in options().values() for option in of_command} | {"--help", "--version"}
    scripts = "".join(file.read_text() for file in (ROOT / "benchmarks").glob("*.py"))
    named = {
        word.partition("=")[0]
        for code in inline_code(page)
        if code.startswith("-")
        for word in re.split(r"[ /]", code)
        if re.match(r"--?[a-z]", word)
    }
    assert [option for option in sorted(named) if option not in known and f'"{option}"' not in scripts] == []


@each(CURRENT)
def test_every_config_key_exists(page):
    missing = []
    for section, key in re.findall(
        r"(?<![\w.])(trainer|cortex|policy|curriculum|evaluation)\.(\w+)\b(?!\()", text_of(page)
    ):
        config = TrainConfig.model_fields[section].annotation
        if key not in config.model_fields and key not in ("py", "md", "svg"):  # type: ignore[union-attr]
            missing.append(f"{section}.{key}")
    assert missing == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", outside_of_code(page), flags=re.MULTILINE):
        text = re.sub(r"[^\w\s-]", "", LINK.sub(r"\1", heading).lower()).strip()
        found |= {re.sub(r"\s", "-", text), re.sub(r"[-\s]+", "-", text)}
    return found


@each(PAGES)
def test_every_relative_link_and_anchor_leads_somewhere(page):
    broken = []
    targets = [target for _, target in LINK.findall(outside_of_code(page))]
    targets += re.findall(r'src="([^"]+)"', page.read_text())
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@each(PAGES)
def test_no_line_is_longer_than_110_characters_except_tables_and_urls(page):
    lines = enumerate(page.read_text().splitlines(), start=1)
    long = [n for n, line in lines if len(re.sub(r"\(?https?://\S+", "", line)) > WIDTH and not line.startswith("|")]
    assert long == []


@cache
def sources() -> dict[str, str]:
    """Path -> text of what the project's Python files hold."""
    folders = ("memexp", "recipes", "tests", "benchmarks", "devops", "docs")
    return {str(file.relative_to(ROOT)): file.read_text() for top in folders for file in (ROOT / top).rglob("*.py")}


@each(CURRENT)
def test_every_file_that_is_named_exists(page):
    tops = {file.name for file in ROOT.iterdir()}
    names = {Path(path).name for path in sources()}
    missing = []
    for code in inline_code(page):
        if not re.fullmatch(r"[\w./*<>-]+", code) or "<" in code or code.startswith((".venv", "../", "/")):
            continue
        if "/" in code and code.split("/")[0] in tops - {"build"}:
            if not any(ROOT.glob(code.rstrip("/"))):
                missing.append(code)
        elif re.fullmatch(r"\w+\.py", code) and code not in names | {"plain.py", "cpu.py", "gpu.py"}:
            missing.append(code)
    assert missing == []


@each(CURRENT)
def test_every_module_class_and_test_that_is_named_exists(page):
    missing = []
    for code in inline_code(page):
        for dotted in re.findall(r"(?<![\w.])(?:memexp|recipes(?!\.py\b))(?:\.\w+)+", code):
            parts = re.sub(r"^recipes\b", "memexp.recipes", dotted).split(".")
            paths = ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]
            found = next(n for n, path in enumerate(paths) if f"{path}.py" in sources() or (ROOT / path).is_dir())
            text = "".join(sources().get(name, "") for name in (f"{paths[found]}.py", f"{paths[found]}/__init__.py"))
            if found and not re.search(rf"\b{parts[-found]}\b", text):
                missing.append(dotted)
        if re.fullmatch(r"test_\w+", code) and not any(f"def {code}(" in text for text in sources().values()):
            missing.append(code)
    assert missing == []


@cache
def project_text() -> str:
    """Everything that the project's files say, apart from its documentation, and their names."""
    kinds = {".py", ".yaml", ".sh", ".toml", ".js", ".j2", ".txt", ".json"}
    tops = ("memexp", "recipes", "tests", "benchmarks", "devops", "experiments")
    files = [file for top in tops for file in (ROOT / top).rglob("*") if file.suffix in kinds]
    files += [
        ROOT / name for name in ("Makefile", "pyproject.toml", "mkdocs.yml", "experiments.yaml", "constraints.txt")
    ]
    return " ".join([str(file.relative_to(ROOT)) + " " + file.read_text() for file in files])


@each(CURRENT)
def test_every_name_in_code_type_occurs_in_the_project(page):
    names = {name for code in inline_code(page) for name in re.findall(r"[A-Za-z_]\w{3,}", code)}
    assert [name for name in sorted(names - FOREIGN) if name not in project_text()] == []


def test_the_list_of_decisions_has_every_cause_of_a_memory_verdict_in_the_order_of_the_code():
    text = (ROOT / "docs" / "method.md").read_text()
    causes = [cause.name for cause in MemoryCause]
    assert [name for name in re.findall(r"`([A-Z_]+)`", text) if name in causes] == causes


def test_the_architecture_page_lists_every_module_and_no_other():
    """`python devops/site/tree.py` writes the tables again."""
    tables = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Files\n")[2]
    listed = set()
    for section in re.split(r"^### ", tables, flags=re.MULTILINE)[1:]:
        package = section.partition("\n")[0].rstrip("/")
        for name in re.findall(r"^\| `([^`]+)`", section, flags=re.MULTILINE):
            listed.add(f"{package}/{name}" + ("__init__.py" if name.endswith("/") else ""))
    modules = {path for path in sources() if path.startswith("memexp/")}
    assert modules - listed == {path for path in modules if re.fullmatch(r"memexp/(\w+/)?__init__\.py", path)}
    assert listed <= modules


@pytest.mark.parametrize("page", ["matrix.md", "settings.md"])
def test_the_pages_of_the_matrix_file_and_of_settings_say_what_the_models_say(page):
    """`python devops/site/matrix.py` writes the tables again."""
    script = runpy.run_path(str(ROOT / "devops" / "site" / "matrix.py"))
    assert (ROOT / "docs" / page).read_text() == script["written"](page)


REST = {
    "name": "rest",
    "environments": {"maze": {"recipe": "recipes.controls.tmaze"}},
    "architectures": {"S": {"pattern": "S"}},
    "steps": "100k",
}
"""What a part of a matrix file lacks."""


@each(CURRENT)
def test_every_matrix_and_every_part_of_one_can_be_read(page):
    for block in re.findall(r"^ *```yaml\n(.*?)^ *```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
        data = strict_yaml.read(textwrap.dedent(block))
        if "name" in data:
            assert expand(Matrix.parse(data, name_of(page)), name_of(page))
        elif data.keys() & Matrix.model_fields.keys():
            Matrix.parse({**REST, **data}, name_of(page))


def test_the_page_of_the_monitor_explains_every_mark_and_column():
    rows = [line for line in (ROOT / "docs" / "monitor.md").read_text().splitlines() if line.startswith("| ")]
    for state, (mark, _) in MARKS.items():
        assert any(mark in row and re.search(rf"\b{state}\b", row) for row in rows), state
    explained = {name.strip() for row in rows for name in row.split("|")[1].split(",")}
    assert {"return", "curve", "furthest", "entropy", "gap", "GPU", "saved", "steps/s", "left"} <= explained


INSTALLED = [name for name, kind in LOGGERS.items() if not kind.library or is_installed(kind.library)]
REAL_RUNS = {
    "tmaze": lambda: tiny(evaluation__episodes=4, trainer__grad_norm_growth=4),
    "chain_recall": lambda: tiny("chain_recall", env__k=2, env__episode_length=8),
    "delayed_cue": lambda: tiny("delayed_cue", loggers=INSTALLED, wandb__mode="offline"),
    "assembly_lines": lambda: tiny_assembly(curriculum__kind="learning_progress"),
    "cvc_random_maps": lambda: tiny_cvc(curriculum__kind="learning_progress"),
    "any": lambda: override(any_recipe(env="gym:CartPole-v1"), {**TINY, "trainer.num_minibatches": 2}),
}


@pytest.mark.slow
@pytest.mark.parametrize("env", REAL_RUNS)
def test_every_column_and_file_that_a_run_and_its_loggers_write_is_explained(env):
    train(override(REAL_RUNS[env](), {"run": "r"}))
    run = memexp.load("r")
    text = (ROOT / "docs" / "files.md").read_text()
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    names = {name for cell in cells for name in re.findall("`([^`]+)`", cell)} - {"env/NAME", "curriculum/NAME"}
    known = re.compile("|".join(re.sub("[A-Z]{4,}", r"[^/]+", re.escape(name)) for name in names))
    written = [*run.metrics.columns, *run.episodes.columns]
    unknown = [name for name in written if not known.fullmatch(name)]
    assert unknown == [], unknown
    assert {"episode/count", "sps"} <= {*run.metrics.columns}
    files = {file.name + "/" * file.is_dir() for file in run.run.path.iterdir()}
    assert files <= names, files - names
    of_logger = {"wandb": "wandb/", "tensorboard": "tensorboard/", "csv": "metrics.csv", "mlflow": "mlflow_run"}
    assert of_logger.keys() == LOGGERS.keys()
    assert {of_logger[name] for name in INSTALLED if env == "delayed_cue"} <= files
