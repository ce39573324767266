"""Golden cases of the memory cells: loading, the modules they were recorded from, and how their names map to ours."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.published_blocks import Adapter, PostUp, PreUp
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.blocks import PassThrough
from memexp.cortex.cells.agalite import AGaLiTe
from memexp.cortex.cells.axon import Axon
from memexp.cortex.cells.conv import CausalConv
from memexp.cortex.cells.lstm import LSTM
from memexp.cortex.cells.mlstm import MLSTM
from memexp.cortex.cells.slstm import SLSTM
from memexp.cortex.cells.xl import XL
from memexp.cortex.cells.xl_axon import XLAxon
from memexp.cortex.stack import Options, Stack, build_column, build_stack
from memexp.pattern import parse_pattern


class Case:
    """One golden file: `meta`, and groups of arrays as tensors, e.g. `case["state0"]["mem"]`, `case["y"]`."""

    def __init__(self, path: Path) -> None:
        self.groups: dict[str, Any] = {}
        with np.load(path) as file:
            self.meta = json.loads(str(file["meta"]))
            for key in set(file.files) - {"meta"}:
                group, _, name = key.partition("/")
                into, name = (self.groups.setdefault(group, {}), name) if name else (self.groups, group)
                into[name] = torch.from_numpy(file[key])

    def __getitem__(self, group: str) -> Any:
        return self.groups[group]

    def published(self, group: str) -> dict[str, Tensor]:
        """`grad` or `state1`, with the entries replaced where the published ones are wrong at resets (D1, D2)."""
        return {**self.groups[group], **self.groups.get(f"{group}_exact", {})}

    def proper(self, group: str) -> dict[str, Tensor]:
        """The same for a proper Hadamard transform, as far as recorded."""
        prefixes = (f"{group}/", f"{group}_exact/")
        return {k.split("/", 1)[1]: v for k, v in self.groups.get("hadamard", {}).items() if k.startswith(prefixes)}

    @property
    def resets(self) -> Tensor:
        return self["resets"].bool()

    @property
    def mem_len(self) -> int:
        """Of a cell, a block or a column with X."""
        config = self.meta["config"]
        return config["cell"]["mem_len"] if self.meta["kind"] == "block" else config["mem_len"]

    @property
    def tokens(self) -> list[str]:
        """The tokens of a column's or stack's pattern, in order."""
        config = self.meta.get("config", {})
        return parse_pattern(config.get("column") or config.get("stack") or "X")

    def initial_state(self, module: nn.Module) -> dict[str, Tensor]:
        """The recorded initial state under our keys; parts that the file lacks are zero."""
        recorded = flat_state(self["state0"], self.tokens)
        return module.init_state(len(self["x"]), torch.device("cpu"), torch.float32) | recorded  # type: ignore[operator]


def build(meta: dict[str, Any], published_xl: bool) -> nn.Module:
    """The module that a case was recorded from."""
    builders = {"cell": build_cell, "block": build_block, "column": build_golden_column, "stack": build_golden_stack}
    return builders[meta["kind"]](meta["config"], meta["H"], published_xl)


def build_cell(config: dict[str, Any], H: int, published_xl: bool) -> nn.Module:
    name = config["cell"]
    match name:
        case "XLCell":
            cell = XLAxon if config["use_axon_qkv"] else XL
            return cell(H, config["n_heads"], config["mem_len"], published_xl)
        case "sLSTMCell":
            return SLSTM(H, config["num_heads"], axon=config.get("use_axon_layer", False))
        case "LSTMCell":
            return LSTM(H)
        case "AGaLiTeCell":
            return AGaLiTe(H, config["n_heads"], config["eta"])
        case "Axon":
            mixer = "srht" if config["use_srht"] else "dense" if config["use_untraced_linear"] else "none"
            activation = {"identity": lambda c: c, "silu": F.silu}[config["activation"]]
            return Axon(H, config["out_dim"], mixer, activation)
        case "mLSTMCell":
            return MLSTM(
                H, config["num_heads"], chunk=config.get("chunk_size", 64), axon=config.get("use_axon_layer", False)
            )
        case "CausalConv1d":
            return CausalConv(H, config["kernel_size"], config["channel_mixing"])
    raise AssertionError(f"no builder for {name}")


def build_block(config: dict[str, Any], H: int, published_xl: bool) -> nn.Module:
    name = config["block"]
    if token := re.match(r"token (\S+)", name):
        options = Options(H, mem_len=config["cell"].get("mem_len", 128), published_xl=published_xl)
        return build_column(token[1], options).experts[0]
    match name:
        case "Adapter(PassThrough(LSTM))":
            return Adapter(PassThrough(LSTM(H)), H, config["bottleneck"], config["per_channel_gate"], F.relu)
        case "Adapter(PostUp(LSTM))":
            return Adapter(PostUp(LSTM(H), H), H, config["bottleneck"], config["per_channel_gate"])
        case "PostUp(sLSTM)":
            return PostUp(SLSTM(H), H)
        case "PreUp(LSTM)":
            return PreUp(LSTM(PreUp.cell_width(H)), H)
        case "PreUp(mLSTM)":
            return PreUp(MLSTM(PreUp.cell_width(H)), H, activate=False)
    raise AssertionError(f"no builder for {name}")


def build_golden_column(config: dict[str, Any], H: int, published_xl: bool) -> nn.Module:
    published = config["router"]
    router = {
        "d_key": published["d_key"],
        "d_key_local": published["d_key_local"],
        "temperature": published["temperature"],
        "local_temperature": published["local_temperature"],
        "top_k": published["top_k"],
        "sqrt_scale": published["use_sqrt_scale"],
        "center": published["center_refine"],
        "refine": published["whisper_lambda"],
    }
    mem_len = 0 if config["mem_len"] is None else config["mem_len"]
    return build_column(config["column"], Options(H, mem_len=mem_len, published_xl=published_xl, router=router))


def build_golden_stack(config: dict[str, Any], H: int, published_xl: bool) -> Stack:
    mem_len = 0 if config["mem_len"] is None else config["mem_len"]
    return build_stack(config["stack"], H, config["num_layers"], mem_len=mem_len, published_xl=published_xl)


def parameter_name(published: str, module: nn.Module) -> str:
    """Our name of a published parameter: the same, but for an adapter, which lists its block's cell under two names."""
    if isinstance(module, Adapter) and published.startswith("cell."):
        return f"wrapped_block.{published}"
    return published


def load_parameters(module: nn.Module, case: Case) -> None:
    """Every parameter from the file, strictly: none missing, none left over."""
    named = {**case["param"], **{k: v for k, v in case.groups.get("buffer", {}).items() if "srht" in k and v.numel()}}
    module.load_state_dict({parameter_name(name, module): value for name, value in named.items()}, strict=True)


def mix_as_published_on_the_cpu(module: nn.Module) -> None:
    """Replace each Hadamard matrix by what the published code really computes, [[1, 1], [1, 0]] with itself (D4)."""
    for axon in module.modules():
        if isinstance(axon, Axon) and axon.mixer == "srht":
            matrix = torch.ones(1, 1)
            while len(matrix) < axon.d_hidden:
                matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, 0.0]]), matrix)
            axon.hadamard = matrix


def flat_state(nested: dict[str, Tensor], tokens: list[str]) -> dict[str, Tensor]:
    """Published state paths as our keys: `ColumnBlock_0/expert_PostUpGatedBlock_1/sLSTMCell/c` -> `0.1.S.c`.

    Episode ids become X's age: how many of its slots belong to the episode of the newest one, which are those that the
    published cell attends to next. AGaLiTe's two equal copies become one, and its clock a sign of K and V.
    """
    flat = {}
    ticks = {path.removesuffix("tick"): value for path, value in nested.items() if path.endswith("tick")}
    for path, value in nested.items():
        if path.endswith("tick"):
            continue
        if path.endswith(("tilde_k", "tilde_v")):
            value = value[:, 0] * torch.cos(torch.pi * ticks[path[: -len("tilde_k")]])[:, None, None].round()
        if path.rpartition("/")[2] in ("tilde_k", "s"):  # features of a head slow, eta fast; ours the other way round
            value = value.unflatten(-1, (-1, 6)).mT
        prefix = ""
        if column := re.match(r"ColumnBlock_(\d+)/", path):
            prefix, path = f"{column[1]}.", path[column.end() :]
        if expert := re.match(r"expert_\w+?_(\d+)/", path):
            prefix, path = f"{prefix}{expert[1]}.{tokens[int(expert[1])]}.", path[expert.end() :]
        path = re.sub(r"^(wrapped/)?((\w+Cell|CausalConv1d)/)?((slstm|mlstm|mlstm_qkv|xl_qkv)/)?", "", path)
        if path in ("mem", "mem_seg") and value.shape[1] == 0:
            continue
        if path == "mem_seg":
            path, value = "age", (value == value[:, -1:]).sum(1)
        elif path in ("h", "c") and value.dim() == 3:  # LSTM: the middle axis is the layer
            value = value[:, 0]
        elif path == "n" and value.dim() == 4:  # mLSTM
            value = value[..., 0]
        elif path == "m" and value.dim() == 4:
            value = value[..., 0, 0]
        flat[prefix + path.replace("/", ".")] = value
    return packed(flat)


PACKED = {
    "c": ("hc1", "hc2"),
    "traces": tuple(f"E_{p}_{part}" for p in ("nu", "th", "w1", "w2") for part in ("c1", "c2")),
    "ycnm": ("y", "c", "n", "m"),
    "hc": ("h", "c"),
}
"""Our leaf of a cell's state -> the published leaves `[B, H]` that it holds."""


def packed(flat: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with those leaves stacked that ours holds in one: complex numbers, Axon's traces, sLSTM's state."""
    for ours, parts in PACKED.items():
        for prefix in [key.removesuffix(parts[0]) for key in flat if re.fullmatch(rf"(.*\.)?{parts[0]}", key)]:
            leaf = torch.stack([flat.pop(prefix + part) for part in parts], dim=1)
            flat[prefix + ours] = leaf.unflatten(1, (4, 2)) if ours == "traces" else leaf
    return flat


def gradients_of(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor]:
    """Gradients of `inputs` through `function(*inputs)`, whose outputs receive `grads`."""
    with torch.enable_grad():
        inputs = [a.detach().requires_grad_() for a in inputs]
        outputs = function(*inputs)
        found = torch.autograd.grad(list(outputs), inputs, list(grads), allow_unused=True)
    return [torch.zeros_like(a) if grad is None else grad for a, grad in zip(inputs, found, strict=True)]


def assert_close(actual: Tensor, expected: Tensor, what: str, tolerance: float = 1e-5) -> None:
    """|a - b| <= tolerance max(1, max|b|), the comparison rule of outputs and states."""
    assert actual.shape == expected.shape, f"{what}: {list(actual.shape)} instead of {list(expected.shape)}"
    if expected.numel():
        error = (actual.double() - expected.double()).abs().max().item()
        bound = tolerance * max(1.0, expected.double().abs().max().item())
        assert error <= bound, f"{what}: off by {error:.3g} > {bound:.3g}"


def assert_gradients_close(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    """Per tensor max|a - b| <= tolerance max(max|b|, 0.01 top), top = the largest gradient entry of the case."""
    assert actual.keys() == expected.keys()
    top = max(value.abs().max().item() for value in expected.values())
    for name, value in expected.items():
        error = (actual[name].double() - value.double()).abs().max().item()
        bound = tolerance * max(value.abs().max().item(), 0.01 * top)
        assert error <= bound, f"gradient of {name}: off by {error:.3g} > {bound:.3g}"
