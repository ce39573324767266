"""`memexp play` as it is typed: pages, text, and one clear line for every mistake."""

import re
import shutil
import subprocess

import pytest
from helpers.commands import files_below, type_command
from helpers.episodes import TITLE, random_episode, read_page, write_page
from helpers.training import tiny_assembly

from memexp.ppo.train import train
from memexp.runs import Run

LEVEL_0 = ("assembly_lines", "curriculum_style=level_0", "num_vibes=0")


def test_a_page_is_one_file_that_needs_no_network(capsys, tmp_path):
    out = tmp_path / "deep" / "replay.html"
    typed = type_command(capsys, "play", *LEVEL_0, "--seed", "3", "--max-steps", "50", "--out", str(out))
    assert (typed.code, typed.err) == (0, "")
    assert typed.out.splitlines()[-1] == str(out)
    page = out.read_text()
    assert not re.search(r"https?://|@import|<link|src=", page)
    assert "random policy" in page
    assert "curriculum_style=level_0" in page
    assert read_page(out).last == 50
    assert files_below(tmp_path / "deep").keys() == {"replay.html"}


def test_the_same_seed_gives_the_same_page_and_another_one_another(capsys, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        type_command(capsys, "play", *LEVEL_0, "--seed", seed, "--max-steps", "9", "--out", str(tmp_path / name))
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_without_out_the_page_is_below_home(capsys, home):
    typed = type_command(capsys, "play", *LEVEL_0, "--max-steps", "5")
    assert typed.code == 0
    assert [path.name for path in (home / "replays").iterdir()] == ["assembly_lines.random-policy.s0.html"]


def test_a_task_is_played_as_asked(capsys, tmp_path):
    out = tmp_path / "page.html"
    type_command(capsys, "play", *LEVEL_0, "--task", "77", "--max-steps", "5", "--out", str(out))
    assert "task <b>77</b>" in out.read_text()


def test_a_run_is_played_by_its_policy(capsys, tmp_path):
    train(tiny_assembly(run="short"))
    out = tmp_path / "page.html"
    typed = type_command(capsys, "play", "short", "--max-steps", "20", "--out", str(out))
    assert typed.code == 0
    assert "of run <b>short</b> at 768 agent steps" in out.read_text()
    assert "value" in read_page(out).shapes


def test_ascii_shows_frames_beside_the_followed_agent(capsys):
    typed = type_command(capsys, "play", *LEVEL_0, "--ascii", "--max-steps", "40")
    assert typed.code == 0
    frames = re.findall(r"step (\d+) of 40", typed.out)
    assert [int(step) for step in frames] == list(range(0, 41, 2))
    assert typed.out.count("@") == len(frames) + 1  # the legend
    assert "last action  none yet" in typed.out
    assert "last action  move_" in typed.out


def test_an_env_without_a_map_is_told_step_by_step(capsys):
    typed = type_command(capsys, "play", "chain_recall", "episode_length=9", "k=1", "--ascii")
    assert typed.code == 0
    assert len(typed.out.splitlines()) == 12  # title, header, steps, return
    assert "after 9 steps" in typed.out
    maze = type_command(capsys, "play", "tmaze", "--ascii", "--max-steps", "2")
    assert re.search(r"cue (left|right), start", maze.out)
    assert "not over yet" in maze.out


WRONG = {
    "nothing": ("play", 2, "missing argument"),
    "no such target": ("play assembly_line", 2, "no run and no environment is called .*did you mean 'assembly_lines'"),
    "two targets": ("play assembly_lines tmaze", 2, "'tmaze' is not KEY=VALUE"),
    "unknown player": ("play assembly_lines --player memry", 2, "unknown player 'memry'; did you mean 'memory'"),
    "player of a run": ("play untrained --player random", 2, "--player is for an environment"),
    "knob of a run": ("play untrained length=3", 2, "'length' cannot be set"),
    "greedy environment": ("play assembly_lines --greedy", 2, "--greedy is for the policy of a run"),
    "unknown knob": ("play assembly_lines num_vibe=3", 2, "did you mean 'num_vibes'"),
    "task": ("play assembly_lines --task 2000002", 2, "there is no task 2000002: 0 to 1000000 .*2000001 are held out"),
    "negative task": ("play assembly_lines --task -1", 2, "there is no task -1"),
    "task of a control world": ("play tmaze --task 1 --ascii", 2, "tmaze has no tasks"),
    "no steps": ("play assembly_lines --max-steps 0", 2, "greater than or equal to 1"),
    "no map": ("play tmaze", 2, "tmaze has no map, so there is no page .* --ascii, without --out, prints its steps"),
    "no map of somebody else's": ("play any env=gym:Pendulum-v1 --out a.html", 2, "gym:Pendulum-v1 has no map, so"),
    "no map but a page": ("play tmaze --ascii --out a.html", 2, "tmaze has no map"),
    "no checkpoint": (
        "play untrained",
        2,
        "run 'untrained': there is no checkpoint: it has written none yet, or it failed before",
    ),
    "folder as page": ("play assembly_lines --out .", 1, "cannot write .: Is a directory"),
    "page below a file": ("play assembly_lines --out file/a.html", 1, "cannot write file/a.html: Not a directory"),
}


@pytest.mark.parametrize(("command", "code", "named"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_command_is_one_clear_line(capsys, tmp_path, monkeypatch, command, code, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    config = tiny_assembly(run="untrained")
    run = Run.named("untrained")
    run.write_config(config.model_dump())
    (run.path / "run.json").write_text("{}")
    before = files_below(tmp_path)
    typed = type_command(capsys, *command.split())
    assert (typed.code, typed.out) == (code, "")
    assert len(typed.err.splitlines()) == 1
    assert re.search(named, typed.err), typed.err
    assert files_below(tmp_path) == before


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium to open the page with")
@pytest.mark.parametrize(("step", "agent"), [(0, 0), (41, 3), (100, 17)])
def test_a_browser_shows_what_was_recorded(tmp_path, step, agent):
    recording = random_episode("cvc")
    write_page(recording, TITLE, tmp_path / "page.html")
    where = f"{(tmp_path / 'page.html').as_uri()}#step={step}&agent={agent}"
    browser = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    command = [*browser, "--virtual-time-budget=4000", "--dump-dom", where]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    frame, facts = recording.frame(step), recording.facts
    row, column = divmod(int(frame["cell"][agent]), len(facts["map"][0]))
    action = "none yet" if step == 0 else facts["actions"][frame["action"][agent]]
    mark = "" if step == 0 else " \u2713" if frame["success"][agent] else " \u2717 failed"
    held = [word for r in facts["shown"] for word in (facts["resources"][r], str(frame["inventory"][agent, r]))]
    assert words(dom, "step") == str(step)
    assert words(dom, "place") == f"{row}, {column}"
    assert words(dom, "vibe") == f"vibe {facts['vibes'][frame['vibe'][agent]]}"
    assert words(dom, "action") == action + mark
    assert words(dom, "inventory").split() == held


def words(dom: str, name: str) -> str:
    """The text of the element with this id, which holds no other of its kind."""
    kind, inside = re.search(rf'<(\w+) [^>]*?id="{name}"[^>]*>(.*)', dom, re.DOTALL).groups()
    return " ".join(re.sub("<[^>]*>", " ", re.split(f"</{kind}>", inside, maxsplit=1)[0]).split())


def test_a_text_of_an_observation_is_shown_as_it_was_said():
    import torch

    from memexp import envs
    from memexp.replay.policies import scripted_actor
    from memexp.replay.steps import episode_lines

    torch.manual_seed(0)
    env = envs.make("module:helpers.third_party:Told", 1)
    lines = [*episode_lines(env, scripted_actor("random", env, 0))][1:-1]
    env.close()
    assert len(lines) == 8
    assert all("said 'take the " in line or "said 'wait, do not take any'" in line for line in lines)
