"""The compiled operations. Importing this registers them with Paddle; `paddlemix_qwenvl.ops` calls them."""

from __future__ import annotations

import ctypes
from pathlib import Path

from paddle import _C_ops
from paddle.utils.cpp_extension import load_op_meta_info_and_register_op

# Counts up whenever what an operation takes or gives changes: `paddlemix_qwenvl.ops.compiled` asks for the same number. What is
# not among OPERATIONS it misses by itself.
INTERFACE = 9
_LIBRARY = str(Path(__file__).with_name("_ops.so"))

OPERATIONS = frozenset(load_op_meta_info_and_register_op(_LIBRARY))
run = _C_ops._run_custom_op  # run(name, *inputs, *attributes) -> list of outputs
try:
    from . import _ops
except ImportError:  # it was built without Python's headers
    _ops = None
# The same as functions (*inputs, *attributes) by their names, for tensors that are there and of which no gradient is asked.
DIRECT = {name: getattr(_ops, name) for name in OPERATIONS if hasattr(_ops, name)}
# record(given, constant), recorded(result) -> recording or None, play(recording, given) -> result: csrc/bind/recording.h.
# tensors(*arrays) -> list of those on the CPU. None of them without Python's headers.
record, recorded, play, tensors = (getattr(_ops, name, None) for name in ("record", "recorded", "play", "tensors"))
_c = ctypes.CDLL(_LIBRARY)
_c.qwenvl_cpu_isa.restype = _c.qwenvl_cpu_path.restype = ctypes.c_char_p

_DTYPES = ("float32", "bfloat16", "float16", "int8", "fp8", "int4")  # csrc/types.h
_PRODUCTS = ("float32", "integers", "bfloat16")

HAS_ONEDNN = bool(_c.qwenvl_has_onednn())  # whether Paddle's oneDNN was linked, for products of many rows
HAS_CUDA = bool(_c.qwenvl_has_cuda())  # whether there are CUDA kernels beside the CPU's


def isa() -> str:
    """The instruction set the CPU kernels run on: amx, avx512_bf16, avx512_vnni, avx512, avx2 or generic."""
    return _c.qwenvl_cpu_isa().decode()


def threads() -> int:
    """How many threads the CPU kernels use."""
    return _c.qwenvl_threads()


def set_threads(count: int) -> None:
    """Use `count` threads in every CPU kernel; 0 for as many as OpenMP would."""
    _c.qwenvl_set_threads(count)


def product(dtype: str, rows: int) -> str:
    """How a product of `rows` rows with weights of `dtype` is computed here, which says how it rounds.

    "float32"; "integers": x, and weights that are no integers, to 12 bits and a sign in blocks (x beside int8 and int4 weights to
    15); or "bfloat16": x to bfloat16, sums in float32.
    """
    return _PRODUCTS[_c.qwenvl_product(_DTYPES.index(dtype), ctypes.c_int64(rows))]


def path() -> str:
    """The kernels and products that run here: "generic", "avx2", "avx512", "avx512_vnni", "avx512_bf16" or "amx"."""
    return _c.qwenvl_cpu_path().decode()
