"""Our own matrix products: `multiply_add` for use in kernels, and `transposed_product`.

A plain loop that the compiler vectorises reads and writes each sum again for every few products. Here a tile of sums
stays in vector registers, which needs explicit vector code.
"""

# The compiler calls an intrinsic with a context first, which pyright cannot know.
# pyright: reportCallIssue=false

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor
from torch.nn import functional as F

from memexp.cortex.kernels.cpu import inlined, kernel, over_rows

ROWS = 8
"""Rows of one or more whole tiles: as many as a kernel should give to `multiply_add`."""
_TILE_ROWS, _VECTOR_BYTES = (8, 64) if llvmlite.binding.get_host_cpu_features().get("avx512f") else (4, 32)
"""The sums of a tile must fit in the vector registers: AVX-512 has 32 of 64 bytes, AVX2 16 of 32 bytes."""
_VECTORS = 2
_TILE_BYTES = _VECTORS * _VECTOR_BYTES


@inlined
def multiply_add(a, b, c):
    """c `[m, n]` += a `[m, k]` b `[k, n]`. The rows of b and c must be contiguous; a may be transposed."""
    m, n = c.shape
    width = _TILE_BYTES // c.itemsize
    rows, columns = m - m % _TILE_ROWS, n - n % width
    for j in range(0, columns, width):
        for i in range(0, rows, _TILE_ROWS):
            _tile(a[i:], b[:, j:], c[i:, j:])
    for i in range(m):
        for k in range(a.shape[1]):
            for j in range(columns if i < rows else 0, n):
                c[i, j] += a[i, k] * b[k, j]


def packed(weight: Tensor) -> Tensor:
    """A matrix `[k, n]` as strips `[s, k, w]`, each as wide as a tile and contiguous, the last filled up with zeros."""
    width = _TILE_BYTES // weight.element_size()
    k, n = weight.shape
    return F.pad(weight, (0, -n % width)).view(k, -(-n // width), width).transpose(0, 1).contiguous()


@inlined
def multiply_add_packed(a, b, c):
    """c `[m, s * w]` += a `[m, k]` b, `packed` `[s, k, w]`. m is a multiple of ROWS."""
    for j in range(len(b)):
        for i in range(0, len(c), _TILE_ROWS):
            _tile(a[i:], b[j], c[i:, j * b.shape[2] :])


@intrinsic
def _tile(typing, a, b, c):
    """multiply_add for the first rows of c, as many as a tile has, and 2 vectors of columns."""

    def generate(context, builder, signature, values):
        kinds = (a, b, c)
        arrays = [context.make_array(kind)(context, builder, value) for kind, value in zip(kinds, values, strict=True)]
        number, byte_pointer = context.get_data_type(c.dtype), ir.IntType(8).as_pointer()
        size = context.get_abi_sizeof(number)
        vector = ir.VectorType(number, _VECTOR_BYTES // size)
        starts = [builder.bitcast(array.data, byte_pointer) for array in arrays]
        strides = [cgutils.unpack_tuple(builder, array.strides) for array in arrays]
        steps = cgutils.unpack_tuple(builder, arrays[0].shape)[1]
        word = steps.type

        def place(array, row, column, kind):
            """The address of an entry, as that of a number or a vector."""
            offset = builder.add(builder.mul(row, strides[array][0]), builder.mul(column, strides[array][1]))
            return builder.bitcast(builder.gep(starts[array], [offset]), kind.as_pointer())

        def columns(array, row):
            return [place(array, row, word(n * vector.count), vector) for n in range(_VECTORS)]

        targets = [address for row in range(_TILE_ROWS) for address in columns(2, word(row))]
        sums = [cgutils.alloca_once_value(builder, builder.load(target, align=size)) for target in targets]
        undefined, lanes = ir.Constant(vector, ir.Undefined), ir.VectorType(ir.IntType(32), vector.count)
        with cgutils.for_range(builder, steps) as loop:
            right = [builder.load(address, align=size) for address in columns(1, loop.index)]
            for row in range(_TILE_ROWS):
                one = builder.load(place(0, word(row), loop.index, number))
                first = builder.insert_element(undefined, one, ir.IntType(32)(0))
                left = builder.shuffle_vector(first, undefined, ir.Constant(lanes, [0] * vector.count))
                for total, other in zip(sums[row * _VECTORS :], right, strict=False):
                    term = builder.fmul(left, other, flags=["contract"])
                    builder.store(builder.fadd(builder.load(total), term, flags=["contract"]), total)
        for target, total in zip(targets, sums, strict=True):
            builder.store(builder.load(total), target, align=size)
        return context.get_dummy_value()

    return types.void(a, b, c), generate


_TERMS_AT_ONCE = 64
"""Rows whose part of a tile fits in the L1 cache beside the sums."""


def transposed_product(a: Tensor, b: Tensor) -> Tensor:
    """a^T b `[m, k]` of a `[n, m]` and b `[n, k]`, without copies."""
    y = b.new_zeros(a.shape[1], b.shape[1])
    over_rows(_transposed_product, -(-a.shape[1] // ROWS), a.contiguous(), b.contiguous(), y)
    return y


@kernel
def _transposed_product(a, b, y, first, end):
    left, right = first * ROWS, min(end * ROWS, len(y))
    for start in range(0, len(a), _TERMS_AT_ONCE):
        stop = min(start + _TERMS_AT_ONCE, len(a))
        multiply_add(a[start:stop, left:right].T, b[start:stop], y[left:right])
