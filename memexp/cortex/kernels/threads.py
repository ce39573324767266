"""`spread`: runs the parts of a loop on the threads of torch's OpenMP runtime, from compiled code.

These threads spin for a while after each torch operation. A thread pool of our own would compete with them for the
cores (sLSTM, T = 64 on 2 cores: 2.5 ms with our own pool, 0.9 ms with torch's threads).
"""

import ctypes
import functools

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@functools.cache
def openmp() -> int:
    """The address of GOMP_parallel(function, argument, number of threads, flags) in torch's OpenMP, or 0."""
    parallel = getattr(ctypes.CDLL(None), "GOMP_parallel", None) if torch.backends.openmp.is_available() else None
    return 0 if parallel is None else ctypes.cast(parallel, ctypes.c_void_p).value or 0


@intrinsic
def spread(typing, run, arrays, rows, parts, parallel):
    """run(*arrays, first, end) for each of several parts of the rows, by the threads of `parallel`, from `openmp`.

    It is LLVM code, so that the threads need neither Python nor the GIL: 5 us per call instead of 30.
    """
    kinds = (*arrays.types, types.intp, types.intp)

    def generate(context, builder, signature, values):
        _, arrays, rows, parts, parallel = values
        size, byte_pointer, nothing = rows.type, ir.IntType(8).as_pointer(), ir.VoidType()
        job_type = ir.LiteralStructType([arrays.type, size, size, size])  # the last: parts that were taken
        body = run.dispatcher.get_compile_result(types.void(*kinds))
        context.active_code_library.add_linking_library(body.library)
        kernel = context.declare_function(builder.module, body.fndesc)

        work_type = ir.FunctionType(nothing, [byte_pointer])
        work = ir.Function(builder.module, work_type, kernel.name + ".part")
        work.linkage = "internal"
        start, take, do, stop = (work.append_basic_block() for _ in range(4))
        inside = ir.IRBuilder(start)
        job = inside.bitcast(work.args[0], job_type.as_pointer())
        given = [inside.load(cgutils.gep_inbounds(inside, job, 0, n)) for n in range(3)]
        inside.branch(take)
        inside.position_at_end(take)
        part = inside.atomic_rmw("add", cgutils.gep_inbounds(inside, job, 0, 3), size(1), "monotonic")
        inside.cbranch(inside.icmp_signed("<", part, given[2]), do, stop)
        inside.position_at_end(do)
        bounds = (inside.sdiv(inside.mul(given[1], n), given[2]) for n in (part, inside.add(part, size(1))))
        each = (inside.extract_value(given[0], n) for n in range(len(kinds) - 2))
        context.call_conv.call_function(inside, kernel, types.void, kinds, [*each, *bounds])
        inside.branch(take)
        inside.position_at_end(stop)
        inside.ret_void()

        job = cgutils.alloca_once(builder, job_type)
        for n, value in enumerate((arrays, rows, parts, size(0))):
            builder.store(value, cgutils.gep_inbounds(builder, job, 0, n))
        int32 = ir.IntType(32)
        call_type = ir.FunctionType(nothing, [work_type.as_pointer(), byte_pointer, int32, int32])
        call = builder.inttoptr(parallel, call_type.as_pointer())
        builder.call(call, [work, builder.bitcast(job, byte_pointer), builder.trunc(parts, int32), int32(0)])
        return context.get_dummy_value()

    return types.void(run, arrays, rows, parts, parallel), generate
