"""The compiled operations. Importing this registers them with Paddle; `paddlemix_qwenvl.ops` calls them."""

from __future__ import annotations

import ctypes
from pathlib import Path

from paddle import _C_ops
from paddle.utils.cpp_extension import load_op_meta_info_and_register_op

_LIBRARY = str(Path(__file__).with_name("_ops.so"))

OPERATIONS = frozenset(load_op_meta_info_and_register_op(_LIBRARY))
# Those of `paddlemix_qwenvl.ops` that are registered with a gradient of their own.
DIFFERENTIABLE = frozenset({"layer_norm", "linear", "qkv_transpose_split", "rms_norm", "swiglu", "varlen_attention"})
run = _C_ops._run_custom_op  # run(name, *inputs, *attributes) -> list of outputs
_c = ctypes.CDLL(_LIBRARY)
_c.qwenvl_cpu_isa.restype = ctypes.c_char_p

HAS_CUDA = bool(_c.qwenvl_has_cuda())  # whether there are CUDA kernels beside the CPU's


def isa() -> str:
    """The instruction set the CPU kernels run on: avx512, avx2 or generic."""
    return _c.qwenvl_cpu_isa().decode()


def threads() -> int:
    """How many threads the CPU kernels use."""
    return _c.qwenvl_threads()


def set_threads(count: int) -> None:
    """Use `count` threads in every CPU kernel; 0 for as many as OpenMP would."""
    _c.qwenvl_set_threads(count)


def bfloat16_products() -> str:
    """How products of many rows with bfloat16 weights are computed on this CPU."""
    own = "integers" if _c.qwenvl_has_integer_products() else "float32"
    return {1: "oneDNN in bfloat16", 0: own, -1: f"{own}, for want of oneDNN's headers at build time"}[
        _c.qwenvl_has_bfloat16_products()
    ]
