"""Compiles every kernel of the grid engine for real GPUs, without one: PTX by NVVM, machine code by nvJitLink.

    python benchmarks/ptx.py [--cc 80 90] [--json]

Prints registers a thread, stack (spills, arrays) and spilled bytes of each kernel, and how many threads of it a
multiprocessor of 65,536 registers holds. Needs numba-cuda with NVVM and nvJitLink: the `gpu`
extra. Whether they run, and how fast, only a device can tell: benchmarks/engine.py --device cuda.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

REGISTERS = 65_536
"""Of a multiprocessor, from compute capability 3.5 on."""


def signatures() -> dict[str, tuple[Any, ...]]:
    """Kernel -> types of its arguments: those of worlds in the host's memory are the same."""
    import numba
    import torch

    from memexp.envs.assembly_lines import sizes_of
    from memexp.envs.config import AssemblyLines
    from memexp.envs.grid import cuda as kernels
    from memexp.envs.grid.memory import Block, Log, copying, keeping_last, shared

    block = Block(sizes_of(AssemblyLines().style), 2, torch.device("cpu"))
    log, numbers = Log(block, 2), torch.zeros(2, dtype=torch.int64).numpy()
    pairs = [torch.zeros(2, 1, dtype=kind) for kind in (torch.int64, torch.int32, torch.bool)]
    turn = kernels.Turn(shared(pairs[0]), numbers, shared(pairs[1]), shared(pairs[2]))
    plan = copying(block, block)
    change = kernels.Change(
        block.shared, block.shared, log.shared, log.record, keeping_last(block), log.plan(block), plan,
        numbers, numbers, shared(log.counters),
    )  # fmt: skip
    delivery = kernels.Delivery(block.shared, block.shared, plan, numbers, numbers, numbers)
    state = numba.typeof(block.state)
    return {
        "act": (state, numba.typeof(turn), numba.int64),
        "look_around": (state, numba.typeof(turn)),
        "settle_all": (state, numba.typeof(turn)),
        "renew": (state, numba.typeof(change)),
        "deliver": (numba.typeof(delivery),),
    }


def compile_all(cc: int) -> list[dict[str, Any]]:
    """What becomes of every kernel for one compute capability (80: 8.0)."""
    import numba.cuda.dispatcher as dispatcher

    from memexp.envs.grid.cuda import KERNELS, cuda

    capability = divmod(cc, 10)
    # The rules that a kernel calls are compiled for "the current device", which need not exist.
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)  # type: ignore[assignment]
    kinds = signatures()
    if missing := KERNELS.keys() ^ kinds.keys():
        raise SystemExit(f"kernels without a signature here, or the other way round: {', '.join(sorted(missing))}")
    rows = []
    for name, kind in kinds.items():
        start = time.perf_counter()
        ptx, _ = cuda.compile(KERNELS[name].py_func, kind, device=False, cc=capability, abi="numba")
        seconds = time.perf_counter() - start
        text = ptx if isinstance(ptx, str) else ptx.decode()
        rows.append({"kernel": name, "cc": cc, "ptx_bytes": len(text), "seconds": seconds, **machine_code(text, cc)})
    return rows


def machine_code(ptx: str, cc: int) -> dict[str, int]:
    """Size of the machine code of a kernel, and what it needs of a multiprocessor."""
    from cuda.bindings import nvjitlink  # type: ignore[import-not-found]

    linker = nvjitlink.create(2, [f"-arch=sm_{cc}", "-verbose"])
    code = ptx.encode()
    nvjitlink.add_data(linker, nvjitlink.InputType.PTX, code, len(code), "kernel")
    nvjitlink.complete(linker)
    told = bytearray(nvjitlink.get_info_log_size(linker))
    nvjitlink.get_info_log(linker, told)
    size = nvjitlink.get_linked_cubin_size(linker)
    nvjitlink.destroy(linker)
    text = told.decode()

    def number(pattern: str) -> int:
        found = re.search(pattern, text)
        return int(found.group(1)) if found else 0

    return {
        "cubin_bytes": size,
        "registers": number(r"Used (\d+) registers"),
        "stack_bytes": number(r"(\d+) bytes stack frame"),
        "spilled_bytes": number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
        "parameter_bytes": number(r"(\d+) bytes cmem\[0\]"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cc", nargs="+", type=int, default=[80, 90], help="compute capabilities, 90: H100")
    parser.add_argument("--json", action="store_true", help="one JSON list on stdout")
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inner:
        print(json.dumps(compile_all(options.cc[0])))
        return
    rows = []
    for cc in options.cc:  # a process each: a rule is compiled once in a process
        words = [sys.executable, __file__, "--inner", "--cc", str(cc)]
        rows += json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'kernel':12} {'sm':>3} {'registers':>9} {'stack B':>8} {'spilled B':>9} {'code kB':>8} {'threads/SM':>10}")
    for row in rows:
        threads = min(2048, REGISTERS // max(row["registers"], 1) // 32 * 32)
        print(
            f"{row['kernel']:12} {row['cc']:>3} {row['registers']:>9} {row['stack_bytes']:>8} "
            f"{row['spilled_bytes']:>9} {row['cubin_bytes'] / 1e3:>8.0f} {threads:>10}"
        )


if __name__ == "__main__":
    main()
