"""`memexp export`: one step of a policy as a file for other programs, ONNX or TorchScript, with its memory as tensors.

Inputs: the observation as `VecEnv.encode` gives it, or its parts one by one if it has several; then, if the policy has
a memory, `resets` and the state. Outputs: logits, value, and the state after the step. docs/trained-policies.md says
how to use them. The kernels of cells are exported as their definitions.
"""

import copy
import io
import json
import logging
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from memexp.config import UsageError
from memexp.credentials import mask_data
from memexp.envs.base import VecEnv
from memexp.loading import LoadedPolicy, serial
from memexp.policy.actions import only_allowed
from memexp.policy.gym_encoders import StructEncoder
from memexp.ppo.evaluate import held_out_worlds
from memexp.runs.directory import MAX_GAP, write_atomically
from memexp.spaces import ContinuousActions, MultiDiscreteActions, StructSpace, described, read_part

STEPS = 100
"""Steps of the environment in which a file is compared with the policy."""
ROWS = 3
"""Environments of that comparison."""
BOUND = MAX_GAP["float32"]
"""Largest difference |a - b| / max(1, |b|) of logits and values: as much as a run's acting and learning pass may differ
by. Rounding to float32 makes it about 1e-6."""
METADATA = "memexp"
"""Key of the description in the metadata of an ONNX file, and name of this file in a TorchScript archive."""

Run = Callable[[list[Tensor]], Sequence[Tensor]]
"""One step of a file: its inputs -> its outputs."""


class Step(nn.Module):
    """One step of a policy in float32: tensors in, tensors out, named `inputs` and `outputs`."""

    def __init__(self, policy: LoadedPolicy) -> None:
        super().__init__()
        self.policy, self.space = copy.deepcopy(policy.module), policy.env.observation
        self.policy.requires_grad_(False)  # else what a file returns would keep every step before it
        self.keys = [*policy.init_state(1)]
        self.parts = ["obs"]
        if isinstance(self.policy.encoder, StructEncoder):
            self.policy.encoder = _OfParts(self.policy.encoder)
            if len(self.policy.encoder.names) > 1:
                self.parts = [f"obs.{name}" for name in self.policy.encoder.names]
        self.mask = self.space.mask if isinstance(self.space, StructSpace) else None
        if self.mask and isinstance(self.space, StructSpace):
            self.policy.observation = replace(self.space, mask=None)  # the mask is an input of its own
            self.parts = [*self.parts, self.mask.name]
        self.inputs = self.parts + (["resets", *(f"state.{key}" for key in self.keys)] if self.keys else [])
        self.outputs = ["logits", "value", *(f"next.{key}" for key in self.keys)]

    def given(self, obs: Tensor, resets: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
        """The inputs for encoded observations `[N, ...]`, resets `[N]` and the leaves of the state."""
        parts = [obs]
        if isinstance(self.space, StructSpace):
            wanted = (*self.space.parts, self.mask) if self.mask else self.space.parts
            parts = [read_part(obs, part) for part in wanted]
        return [*parts, *((resets, *state) if self.keys else ())]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        parts, memory = inputs[: len(self.parts)], inputs[len(self.parts) :]
        seen = parts[:-1] if self.mask else parts
        obs = seen if isinstance(self.policy.encoder, _OfParts) else parts[0]
        resets = memory[0] if memory else torch.zeros(parts[0].shape[0], dtype=torch.bool)
        logits, value, after = self.policy(obs, dict(zip(self.keys, memory[1:], strict=True)), resets)
        if self.mask:
            logits = only_allowed(logits, parts[-1] != 0)
        return logits, value, *(after[key] for key in self.keys)


class _OfParts(nn.Module):
    """A StructEncoder that takes the parts of an observation instead of its bytes."""

    def __init__(self, encoder: StructEncoder) -> None:
        super().__init__()
        self.encoders, self.out, self.names = encoder.encoders, encoder.out, [part.name for part in encoder.parts]

    def forward(self, parts: tuple[Tensor, ...]) -> Tensor:
        encoded = [encode(part) for encode, part in zip(self.encoders, parts, strict=True)]
        return self.out(nn.functional.silu(torch.cat(encoded, -1)))


def export(policy: LoadedPolicy, files: dict[str, Path]) -> dict[str, float]:
    """Write the policy, which is on the CPU, to `files` ("onnx" or "torchscript" -> where).

    Returns the largest difference of each file from the policy. Raises UsageError if a package is missing or an
    operation of the policy cannot be exported, and ExportError if a difference is above BOUND; then that file is not
    written.
    """
    step, differences = Step(policy).eval(), dict[str, float]()
    with closing(held_out_worlds(serial(policy.config.env), ROWS, policy.config.seed)) as env:
        rows, obs = 2 * env.num_agents, env.reset()  # others than in the comparison
        state = policy.init_state(rows).values()
        example = step.given(torch.cat([obs, obs]), torch.ones(rows, dtype=torch.bool), [*state])
        about = json.dumps(description(policy, step, example), indent=2)
        with _refusing(), torch.no_grad():
            sizes = tuple({0: torch.export.Dim("N")} for _ in example)
            program = torch.export.export(step, tuple(example), dynamic_shapes=(sizes,))
        for kind, path in files.items():
            with _refusing():
                data, run = FORMATS[kind](program, step, example, about)
            differences[kind] = found = difference(policy, step, run, env)
            if not found <= BOUND:
                raise ExportError(
                    f"{path} is not written: it differs by {found:.2g} from the policy, more than {BOUND:g}"
                )
            write_atomically(path, data)
    return differences


class ExportError(RuntimeError):
    """An exported policy does not do what the policy does."""


def to_onnx(program: Any, step: Step, example: list[Tensor], about: str) -> tuple[bytes, Run]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch imports it)
    except ImportError as error:
        raise UsageError(f"--onnx needs {error.name}: pip install 'memexp[export]'") from None
    made = torch.onnx.export(program, input_names=step.inputs, output_names=step.outputs, dynamo=True, verbose=False)
    assert made is not None
    made.model.metadata_props[METADATA] = about
    data = made.model_proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(inputs: list[Tensor]) -> list[Tensor]:
        given = {name: one.numpy() for name, one in zip(step.inputs, inputs, strict=True)}
        return [torch.from_numpy(np.asarray(one)) for one in session.run(step.outputs, given)]

    return data, run


def to_torchscript(_: Any, step: Step, example: list[Tensor], about: str) -> tuple[bytes, Run]:
    """A trace, after torch.export has found that nothing depends on the values of tensors or on the number of rows."""
    buffer = io.BytesIO()
    exports: dict[str, Any] = {name: lambda: True for name in ("is_compiling", "is_exporting")}
    with (
        torch.no_grad(),
        patch.multiple(torch.compiler, **exports),
    ):  # else a trace would see nothing of what our kernels compute
        traced = torch.jit.trace(step, tuple(example), check_trace=False)
    torch.jit.save(traced, buffer, _extra_files={METADATA: about})  # type: ignore[arg-type]
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    return buffer.getvalue(), lambda inputs: loaded(*inputs)


FORMATS = {"onnx": to_onnx, "torchscript": to_torchscript}


@torch.no_grad()
def difference(policy: LoadedPolicy, step: Step, run: Run, env: VecEnv) -> float:
    """Largest difference of logits and values over STEPS steps of `env`, in which each carries its own state.

    The file begins with a state of ones and a reset, as another program may.
    """
    policy.seed(0)
    state, worst = policy.init_state(env.num_agents), 0.0
    own = [torch.ones_like(leaf) for leaf in state.values()]
    obs, resets = env.reset(), torch.ones(env.num_agents, dtype=torch.bool)
    for _ in range(STEPS):
        logits, value, state = policy.module(obs, state, resets)
        (*found,) = run(step.given(obs, resets, own))
        own = found[2:]
        for ours, theirs in ((logits, found[0]), (value, found[1])):
            worst = max(worst, float(((ours - theirs).abs() / ours.abs().clamp(min=1)).max()))
        obs, _, terminated, truncated = env.step(policy.draw(logits))
        resets = terminated | truncated
    return worst


def description(policy: LoadedPolicy, step: Step, example: list[Tensor]) -> dict[str, Any]:
    """What the file holds: inputs, outputs, how observations are encoded and actions decoded."""
    env, config = policy.env, policy.config
    shapes = {name: ["N", *one.shape[1:]] for name, one in zip(step.inputs, example, strict=True)}
    types = {name: str(one.dtype).removeprefix("torch.") for name, one in zip(step.inputs, example, strict=True)}
    state = {name: f"state.{name.removeprefix('next.')}" for name in step.outputs[2:]}
    outputs = {"logits": ["N", policy.module.actions.num_outputs], "value": ["N"]}
    outputs |= {name: shapes[before] for name, before in state.items()}
    return {
        "memexp": version("memexp"),
        "agent_steps": policy.agent_steps,
        "run": config.run,
        "env": mask_data(config.env.model_dump()),
        "inputs": [{"name": name, "type": types[name], "shape": shape} for name, shape in shapes.items()],
        "outputs": [
            {"name": name, "type": types.get(state.get(name, ""), "float32"), "shape": shape}
            for name, shape in outputs.items()
        ],
        "observation": described(env.observation, env.because, env.actions),
        "actions": _actions(env),
    }


def _actions(env: VecEnv) -> dict[str, Any]:
    """How logits become actions of the environment. A bound of None: the number is taken as it is on this side."""
    space = env.actions
    if isinstance(space, ContinuousActions):
        ends = (env.decode(torch.full((1, space.size), end))[0].tolist() for end in (-1e30, 1e30))
        low, high = ([None if abs(one) > 1e29 else one for one in end] for end in ends)
        return {"kind": "continuous", "logits": "means, then log standard deviations", "low": low, "high": high}
    if isinstance(space, MultiDiscreteActions):
        return {"kind": "several discrete", "counts": list(space.counts)}
    return {"kind": "discrete", "count": space.count, "first": int(env.decode(torch.zeros(1, dtype=torch.long))[0])}


@contextmanager
def _refusing() -> Iterator[None]:
    """Turns what torch says against a policy into one line that names the operation."""
    loud = logging.getLogger("torch.onnx")
    level, loud.level = loud.level, logging.ERROR
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about torch itself
            yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"the policy cannot be exported: {_operation(error)}") from None
    finally:
        loud.level = level


def _operation(error: BaseException) -> str:
    """The operation that failed: an operator without a form in ONNX, else the line of code that called it."""
    while error.__cause__:
        error = error.__cause__
    if "specialized it to be a constant" in str(error):
        return "a cell makes the number of rows a constant; x.shape[0], in place of len(x), does not"
    if found := re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error)):
        return f"{found[1]} has no form in ONNX"
    torch_files = str(Path(torch.__file__).parent)
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(torch_files)]
    frames = [one for one in frames if one.filename != __file__]
    where = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}, {frames[-1].line}: " if frames else ""
    return where + (str(error).strip() or type(error).__name__).splitlines()[0]
