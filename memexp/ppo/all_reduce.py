"""Under torchrun: sums a tensor over all ranks, through NCCL on GPUs, else through gloo; fails where a sum is wrong."""

import os
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

NUMBERS = 1 << 22
"""float32 values of the tensor: 16 MiB."""


def main() -> int:
    """0 if every rank got the right sum. A rank that is not heard of for two minutes is an error of the others."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(minutes=2))
    rank, size = dist.get_rank(), dist.get_world_size()
    seconds = []
    right = True
    for _ in range(3):
        values = torch.full((NUMBERS,), float(rank + 1), device=device)
        begun = time.perf_counter()
        dist.all_reduce(values)
        right &= bool((values == size * (size + 1) / 2).all())  # reads the result: the sum is there
        seconds.append(time.perf_counter() - begun)
    if rank == 0:
        rate = NUMBERS * 4 * 2 * (size - 1) / size / min(seconds) / 1e9
        print(f"preflight: {size} ranks summed 16 MiB through {dist.get_backend()}, {rate:.1f} GB/s", flush=True)
    dist.barrier()
    dist.destroy_process_group()
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
