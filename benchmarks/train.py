"""Speed of training: agent steps per second of the whole loop (acting, worlds, learning), and where the time goes.

    python benchmarks/train.py [--threads 1] [--repeats 5] [--envs cvc_random_maps] [--only X0 S] [--no-peers]
    python benchmarks/train.py --device cuda [--dtype bf16]

The founding sizes of the model (width 128, encoder 256, X and S 4 layers, AgSA 3); on a CPU with a smaller batch (160
agents, segments of 64 steps, 4 minibatches, 2 epochs), on a GPU with the founding one (10,240 agents or 1,024, 256
steps, 16 minibatches). L is one LSTM, as the peers have on the same worlds with the same batch:

    puffer      PufferLib's own trainer from its wheel with its LSTM of 128 and our token encoder: the model of L.
                Beside a CPU build of torch its advantage kernel does not load: the same formula in torch replaces it.
    plain       benchmarks/plain_ppo.py, one file in the manner of CleanRL, with torch.nn.LSTM and our token encoder
    puffer-     The same with PufferLib's own encoder: observations as they are, flattened, into a linear layer of 128
    plain-      The same, flattened into linear layers of 256 and 128

All run in turns in this process, one update each, so that other load on the machine hits all alike; the time is wall
time, with `--clock cpu` (one thread, a busy machine) that of the processor. Each line has the median over the repeats
with its quartiles, the median ratio to each peer within the same repeat, the parameters, the shares of rollout (of
which worlds), update and the rest, and the rate of the stack's matrix products. On a GPU also peak memory and whether
the goals for one H200-class GPU are met.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from plain_ppo import Flat, PlainPPO

from memexp import envs
from memexp.config import override
from memexp.cortex.cost import cost
from memexp.policy.encoder import build_encoder
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.timing import Stopwatch
from memexp.ppo.train import keep_freed_memory
from memexp.ppo.trainer import Trainer

ARMS = {"X0": ("X", 0, 4), "X128": ("X", 128, 4), "S": ("S", 0, 4), "AgSA": ("AgSA", 0, 3), "L": ("L", 0, 1)}
"""Name: pattern, mem_len, layers."""
GOALS = {("cvc_random_maps", "X0"): 400_000, ("cvc_random_maps", "AgSA"): 600_000}
"""Agent steps/s on one H200-class GPU."""
WORLDS = {"cvc_random_maps": 8, "assembly_lines": 160}
"""On a CPU."""
PEERS = ("puffer", "plain", "puffer-", "plain-")
WIDTH = 128


@dataclass
class Contender:
    """Something that trains: `update()` makes one update and returns its agent steps."""

    name: str
    update: Callable[[], int]
    parameters: int
    metrics: dict[str, float] = field(default_factory=dict)
    flops: float = 0.0
    """Of an agent step's matrix products in the stack, acting and learning."""
    rates: list[float] = field(default_factory=list)
    times: list[dict[str, float]] = field(default_factory=list)


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    device = torch.device(arguments.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{arguments.threads} CPU threads"
    print(f"{where}, {arguments.dtype}, torch {torch.__version__}, {arguments.repeats} repeats, {arguments.clock} time")
    for env in arguments.envs:
        heading = f"{'steps/s':>9} {'quartiles':>15}" + "".join(f"{'/' + name:>9}" for name in PEERS) + "  params"
        print(f"\n{env:<18}{heading}     rollout worlds  update   rest   GFLOP/s", flush=True)
        contenders = [ours(env, arm, arguments) for arm in arguments.only]
        peers = [] if arguments.no_peers else [peer(name, env, arguments) for name in PEERS]
        measure(contenders + peers, arguments.repeats, device, arguments.clock)
        for contender in contenders + peers:
            print(line(contender, peers), flush=True)
            goal = GOALS.get((env, contender.name))
            if goal and device.type == "cuda":
                met = "met" if statistics.median(contender.rates) >= goal else "not met"
                print(f"    goal of {goal:,} agent steps/s: {met}")
        if device.type == "cuda":
            print(f"    peak memory {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--envs", nargs="*", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--only", nargs="*", choices=ARMS, default=list(ARMS), help="architectures to measure")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bf16"])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more of our trainer's config")
    return parser.parse_args()


def config(env: str, arm: str, arguments: argparse.Namespace) -> TrainConfig:
    pattern, mem_len, layers = ARMS[arm]
    recipe = import_module(f"memexp.recipes.experiment.cortex_paper.2_memory_needed.{env}_train").train
    words: dict[str, Any] = {"trainer.device": arguments.device, "trainer.precision": arguments.dtype}
    if arguments.device == "cpu":
        words |= {"trainer.num_envs": WORLDS[env], "trainer.horizon": 64, "trainer.num_minibatches": 4}
    words |= dict(word.split("=", 1) for word in arguments.set)
    return override(recipe(pattern=pattern, mem_len=mem_len, num_layers=layers, d_hidden=WIDTH), words)


def ours(env: str, arm: str, arguments: argparse.Namespace) -> Contender:
    settings = config(env, arm, arguments)
    trainer = Trainer(settings, Ranks(0, 1, torch.device(arguments.device)))
    (pattern, mem_len, layers), passes = ARMS[arm], 1 + 3 * settings.trainer.update_epochs
    parameters = sum(p.numel() for p in trainer.policy.parameters())
    contender = Contender(arm, lambda: 0, parameters)
    contender.flops = passes * cost(pattern, WIDTH, layers, settings.cortex.n_heads, mem_len).step_flops

    def update() -> int:
        contender.metrics = trainer.train_step()
        trainer.pop_episodes()
        return trainer.segments.rewards.numel()

    contender.update = update
    return contender


def peer(name: str, env: str, arguments: argparse.Namespace) -> Contender:
    torch.manual_seed(0)
    make = {"puffer": puffer, "plain": plain}[name.removesuffix("-")]
    contender = make(env, arguments, own_encoder=name.endswith("-"))
    contender.name = name
    return contender


def plain(env: str, arguments: argparse.Namespace, own_encoder: bool) -> Contender:
    settings = config(env, "L", arguments)
    hyper = settings.trainer
    worlds = envs.build(settings.env, hyper.num_envs, arguments.device, settings.seed)
    flat = Flat(worlds.reset()[0].numel(), 2 * WIDTH, WIDTH)
    ppo = PlainPPO(worlds, hyper, WIDTH, flat if own_encoder else build_encoder(worlds.observation, 2 * WIDTH, WIDTH))
    return Contender("plain", ppo.update, sum(p.numel() for p in ppo.agent.parameters()))


def puffer(env: str, arguments: argparse.Namespace, own_encoder: bool) -> Contender:
    from pufferlib.models import Default, LSTMWrapper

    from memexp.envs.export import pufferl

    settings = config(env, "L", arguments)
    hyper, knobs = settings.trainer, settings.env.model_dump(exclude={"name"}, exclude_unset=True)
    worlds = envs.make_puffer(env, hyper.num_envs, settings.seed, **knobs)
    base = Default(worlds, WIDTH)
    if not own_encoder:
        space = envs.build(settings.env, 1, "cpu", 0).observation
        base.encoder = build_encoder(space, 2 * WIDTH, WIDTH)  # type: ignore[assignment]
        base.encode_observations = lambda observations, state=None: base.encoder(observations)  # type: ignore[method-assign]
    policy = LSTMWrapper(worlds, base, WIDTH, WIDTH).to(arguments.device)
    batch = worlds.num_agents * hyper.horizon
    options = {
        "env": env, "seed": 0, "device": arguments.device, "torch_deterministic": True, "cpu_offload": False,
        "precision": "bfloat16" if arguments.dtype == "bf16" else "float32", "use_rnn": True, "compile": False,
        "data_dir": tempfile.mkdtemp(), "checkpoint_interval": 10**9, "total_timesteps": 10**12,
        "batch_size": batch, "bptt_horizon": hyper.horizon, "minibatch_size": batch // hyper.num_minibatches,
        "max_minibatch_size": batch, "update_epochs": hyper.update_epochs, "optimizer": "adam",
        "learning_rate": hyper.learning_rate, "anneal_lr": False, "adam_beta1": 0.9, "adam_beta2": 0.999,
        "adam_eps": 1e-5, "gamma": hyper.gamma, "gae_lambda": hyper.gae_lambda, "clip_coef": hyper.clip,
        "vf_clip_coef": 10.0, "vf_coef": hyper.value_coefficient, "ent_coef": hyper.entropy_coefficient,
        "max_grad_norm": hyper.max_grad_norm, "prio_alpha": 0.0, "prio_beta0": 1.0, "vtrace_rho_clip": 1.0,
        "vtrace_c_clip": 1.0,
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):  # it draws a dashboard
        trainer = pufferl.load().PuffeRL(options, worlds, policy)
    trainer.utilization.stop()  # a thread of its own that measures the machine's load

    def update() -> int:
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.evaluate()
            trainer.train()
        return batch

    return Contender("puffer", update, sum(p.numel() for p in policy.parameters()))


def measure(contenders: list[Contender], repeats: int, device: torch.device, clock: str) -> None:
    """One update of each in turn: one that is not counted, then `repeats`."""
    for repeat in range(1 + repeats):
        for contender in contenders:
            begun, watch = time.process_time(), Stopwatch(device)
            with watch.part("update"):
                steps = contender.update()
            if repeat:
                seconds = watch.read()["update"]
                contender.rates.append(steps / (time.process_time() - begun if clock == "cpu" else seconds))
                contender.times.append(contender.metrics | {"time/whole": seconds})


def line(contender: Contender, peers: list[Contender]) -> str:
    low, middle, high = statistics.quantiles(contender.rates, n=4, method="inclusive")
    ratios = ["-"] * len(PEERS)
    if contender not in peers and peers:
        pairs = [zip(contender.rates, peer.rates, strict=True) for peer in peers]
        ratios = [f"{statistics.median(mine / other for mine, other in pair):5.2f}x" for pair in pairs]
    quartiles = f"{low:,.0f}-{high:,.0f}"
    text = f"{contender.name:<18}{middle:9,.0f} {quartiles:>15}" + "".join(f"{ratio:>9}" for ratio in ratios)
    text += f"{contender.parameters / 1e6:7.2f}m"
    return text + (split(contender, middle) if contender.flops else "")


def split(contender: Contender, rate: float) -> str:
    """Median shares of the time, and the rate of matrix products."""

    def share(part: str) -> float:
        return statistics.median(times[f"time/{part}"] / times["time/whole"] for times in contender.times)

    rollout, update = share("rollout"), share("update")
    shares = f"{rollout:11.0%} {share('engine'):6.1%} {update:7.0%} {1 - rollout - update:6.1%}"
    return f"{shares} {contender.flops * rate / 1e9:9,.0f}"


if __name__ == "__main__":
    main()
