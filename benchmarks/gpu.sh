#!/usr/bin/env bash
# What has to be seen on a GPU: the grid engine in its kernels (recorded games, parity with the CPU, machine code, speed
# for both games), the cells' kernels' tests there, each kernel against its plain loop and the bandwidth floor, the
# stacks against the published cells (if `cortexcore` is installed) and torch.nn.LSTM, in float32 and bf16, eager and
# compiled, and the whole loop of training beside its peers, with its goals. Run it from the checkout, in an environment
# with the `gpu` and `dev` extras: benchmarks/gpu.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu-results}
mkdir -p "$out"
python -m pytest -q tests/envs/test_grid_cuda.py 2>&1 | tee "$out/engine-tests.txt"
python benchmarks/ptx.py 2>&1 | tee "$out/engine-ptx.txt"
python benchmarks/engine.py --device cuda --only cvc all_room_sizes tiny 2>&1 | tee "$out/engine.txt"
python -m pytest -q tests/cortex/test_triton.py 2>&1 | tee "$out/tests.txt"
for rows in 32 512 4096; do
    python benchmarks/kernels.py --device cuda --rows "$rows" --repeats 5 2>&1 | tee "$out/kernels-$rows.txt"
done
for dtype in float32 bfloat16; do
    for compile in "" --compile; do
        python benchmarks/cortex.py --device cuda --dtype "$dtype" $compile 2>&1 | tee "$out/cortex-$dtype$compile.txt"
    done
done
for dtype in float32 bf16; do
    python benchmarks/train.py --device cuda --dtype "$dtype" 2>&1 | tee "$out/train-$dtype.txt"
done
