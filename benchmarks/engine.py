"""Speed of the grid games, agent steps a second, beside the original engine's figures.

    python benchmarks/engine.py [--only cvc tiny] [--threads 1 2] [--device cuda --worlds 512] [--repeats 7] [--json]

`env`: VecEnv.step with observations, rewards and resets, uniformly random actions over all of them. `engine`: the
compiled step alone. `rules`: the same without observations. With one thread rates are per second of CPU time, as the
original's figures are; with more per second of wall time. Worlds are out of phase, so that episodes end throughout.
Step times are those of `env`: the slowest hold the resets. Medians and quartiles over the repeats, one process a number
of threads.

With `--device cuda` the engine runs on the GPU and rates are per second of wall time: `env` as above, `engine` without
what the host does before a step (so without new episodes), then microseconds of each kernel, and how many episodes
ended. Without a GPU that runs in CUDA's simulator (NUMBA_ENABLE_CUDASIM=1 NUMBA_DISABLE_JIT=1), for trying it out only.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

CVC = {"name": "cvc_random_maps"}
CASES: dict[str, tuple[dict[str, Any], int, float | None, float]] = {
    # case -> knobs, worlds, the original engine alone, the original with its training wrapper (agent steps/s, one core)
    "cvc": (CVC, 64, 266_000, 151_000),
    "cvc 4 cogs 30x30": (CVC | {"num_cogs": 4, "map_width": 30, "map_height": 30}, 256, None, 151_000),
    "tiny": ({"name": "assembly_lines", "curriculum_style": "tiny"}, 1024, 155_000, 23_500),
    "small": ({"name": "assembly_lines", "room_sizes": "small"}, 1024, 151_000, 23_500),
    "medium": ({"name": "assembly_lines", "room_sizes": "medium"}, 1024, 292_000, 23_500),
    "all_room_sizes": ({"name": "assembly_lines"}, 1024, None, 23_500),
    "full": ({"name": "assembly_lines", "curriculum_style": "full"}, 1024, None, 23_500),
}
"""The original's figures are those of ../shared/reference/UPSTREAM.md, measured on a machine of the same kind; its
wrapper with cvc was measured at 20 agents. `full` has obstacles and large rooms."""


def measure(case: str, vibes: int, repeats: int, seconds: float) -> dict[str, list[float]]:
    """Rates [repeats] of env, engine and rules, and the step times of env in seconds, in this process."""
    import numpy as np
    import torch

    from memexp.envs import make
    from memexp.envs.grid import columns as col
    from memexp.envs.grid.compiled import num_cores
    from memexp.envs.grid.step import QUIET, step_worlds
    from memexp.envs.grid.vec_env import GridEnv

    torch.set_num_threads(1)
    knobs, worlds, *_ = CASES[case]
    env = make(num_envs=worlds, num_vibes=vibes, **knobs)
    assert isinstance(env, GridEnv)
    env.desync()
    actions = torch.randint(env.num_actions, (64, env.num_agents), generator=torch.Generator().manual_seed(0))
    arrays = list(actions.numpy().reshape(64, worlds, -1))
    ones = np.ones(worlds, np.int64)
    s = env.state
    clock = time.process_time if num_cores() == 1 else time.perf_counter

    def times(run: Callable[[int], object]) -> list[float]:
        taken, begun = [], clock()
        while clock() - begun < seconds:
            start = clock()
            run(len(taken))
            taken.append(clock() - start)
        return taken

    result: dict[str, list[float]] = {"env": [], "engine": [], "rules": [], "step": []}
    for repeat in range(repeats + 1):
        steps = times(lambda i: env.step(actions[i % 64]))
        env.pop_episodes()
        state = env.state_dict()
        s.world[:, col.MAX_STEPS] = 10**9  # nobody would reset the worlds that end
        engine = times(lambda i: step_worlds(s, arrays[i % 64], ones))
        rules = times(lambda i: step_worlds(s, arrays[i % 64], ones, QUIET))
        env.load_state_dict(state)
        if repeat:  # the first one warms up
            result["step"] += steps
            for name, taken in (("env", steps), ("engine", engine), ("rules", rules)):
                result[name].append(env.num_agents * len(taken) / sum(taken))
    return result


def measure_on_device(case: str, worlds: int, vibes: int, repeats: int, seconds: float) -> dict[str, list[float]]:
    """Rates [repeats] of env and engine on the GPU, microseconds [repeats] of each kernel, episodes [1] that ended."""
    import torch

    from memexp.envs import make
    from memexp.envs.grid import columns as col
    from memexp.envs.grid.device_envs import DeviceEnvs
    from memexp.envs.grid.step import GIVEN
    from memexp.envs.grid.vec_env import GridEnv

    env = make(num_envs=worlds, num_vibes=vibes, device="cuda", **CASES[case][0])
    assert isinstance(env, GridEnv)
    engine = env._engine
    assert isinstance(engine, DeviceEnvs)
    env.desync()
    generator = torch.Generator().manual_seed(0)
    actions = torch.randint(env.num_actions, (64, env.num_agents), generator=generator).to(env.device)

    def wait() -> None:
        if env.device.type == "cuda":
            torch.cuda.synchronize()

    def each(run: Callable[[int], object]) -> float:
        """Seconds of one call, without waiting between calls."""
        wait()
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds or count < 4:
            run(count)
            count += 1
            if count % 64 == 0:
                wait()  # or the host would run ahead for longer than is measured
        wait()
        return (time.perf_counter() - start) / count

    result: dict[str, list[float]] = {name: [] for name in ("env", "engine", *engine.launches(GIVEN), "episodes")}
    ended = 0
    for repeat in range(repeats + 1):
        stepping = each(lambda i: env.step(actions[i % 64]))
        ended += len(env.pop_episodes().get("return", ()))
        state = env.state_dict()
        engine._live.tensors["world"][:, col.MAX_STEPS] = 10**9  # nobody would prepare what follows
        alone = each(lambda i: env.launch(actions[i % 64]))
        parts = {name: each(lambda _, run=run: run()) for name, run in engine.launches(GIVEN).items()}
        env.load_state_dict(state)
        if repeat:
            result["env"].append(env.num_agents / stepping)
            result["engine"].append(env.num_agents / alone)
            for name, taken in parts.items():
                result[name].append(1e6 * taken)
    result["episodes"] = [ended]
    return result


def quantiles(values: list[float], *shares: float) -> list[float]:
    """The values below which these shares of `values` lie."""
    import numpy as np

    return np.quantile(values, shares).tolist()


def measure_apart(case: str, threads: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """`measure` in a process of its own, which is how a number of threads can be chosen."""
    words = [sys.executable, __file__, "--only", case, "--vibes", str(options.vibes), "--inner"]
    words += ["--repeats", str(options.repeats), "--seconds", str(options.seconds)]
    environment = os.environ | {"NUMBA_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    return json.loads(subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout)


def show_device(options: argparse.Namespace) -> None:
    """Measure on the GPU and print a line a game and number of worlds."""
    import torch

    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CUDA's simulator, not a GPU"
    answer = []
    for case in options.only:
        for worlds in options.worlds:
            measured = measure_on_device(case, worlds, options.vibes, options.repeats, options.seconds)
            medians = {name: quantiles(values, 0.25, 0.5, 0.75) for name, values in measured.items()}
            answer.append({"case": case, "worlds": worlds, "device": where, **medians})
            if options.json:
                continue
            rates = {name: medians.pop(name) for name in ("env", "engine")}
            text = [
                f"{name} {m / 1e3:,.0f}k [{low / 1e3:,.0f}-{high / 1e3:,.0f}]" for name, (low, m, high) in rates.items()
            ]
            text += [f"{name} {median:,.0f}" for name, (_, median, _) in medians.items()]
            print(f"{case}, {worlds} worlds, {where}: {', '.join(text)} (agent steps/s; kernels in us)", flush=True)
    if options.json:
        print(json.dumps({"vibes": options.vibes, "cases": answer}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--vibes", type=int, default=152, help="vibe actions (152 in the original)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one repeat of one rate")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--worlds", nargs="+", type=int, default=[512, 4096], help="with --device cuda")
    options = parser.parse_args()
    if options.device == "cuda":
        show_device(options)
        return
    if options.inner:
        print(json.dumps(measure(options.only[0], options.vibes, options.repeats, options.seconds)))
        return
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    table = Table(
        title=f"thousand agent steps/s, {options.vibes} vibes, median [quartiles]; env against the original",
        title_justify="left",
    )
    table.add_column("game")
    for heading in ("threads", "env", "engine", "rules", "/ original", "/ wrapper", "step p50, p99 ms"):
        table.add_column(heading, justify="right")
    answer = []
    todo = [(case, threads) for case in options.only for threads in options.threads]
    for case, threads in track(todo, "measuring", console=Console(stderr=True)):
        measured = measure_apart(case, threads, options)
        rates = {name: quantiles(measured[name], 0.25, 0.5, 0.75) for name in ("env", "engine", "rules")}
        p50, p99 = (1e3 * one for one in quantiles(measured["step"], 0.5, 0.99))
        _, worlds, original, wrapped = CASES[case]
        median = rates["env"][1]
        ratios = {"to_original": original and median / original, "to_wrapper": median / wrapped}
        answer.append(
            {"case": case, "threads": threads, "worlds": worlds, **rates, **ratios, "p50_ms": p50, "p99_ms": p99}
        )
        cells = [f"{m / 1e3:,.0f} [{low / 1e3:,.0f}-{high / 1e3:,.0f}]" for low, m, high in rates.values()]
        ratio = f"{median / original:.1f}x" if original else ""
        table.add_row(case, str(threads), *cells, ratio, f"{median / wrapped:.0f}x", f"{p50:.2f}, {p99:.2f}")
    if options.json:
        print(json.dumps({"vibes": options.vibes, "cases": answer}))
    else:
        Console().print(table)


if __name__ == "__main__":
    main()
