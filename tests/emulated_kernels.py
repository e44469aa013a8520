"""Operations on Paddle's tensors by the CUDA kernels on the emulator, called as external_ops/csrc/bind/gpu.cc calls them."""

from __future__ import annotations

from collections import Counter

import paddle
from gpu.machine import Array, Emulator, byte_weight, int4_weight

from paddlemix_qwenvl.dtypes import dtype_name
from paddlemix_qwenvl.ops.version import Version

FEW_ROWS = 32


class Kernels:
    """The versions of operations that a build with CUDA has.

    Attributes:
        calls: of each of the kernels' functions.
    """

    def __init__(self):
        self.emulator, self.calls = Emulator(), Counter()
        self.emulator.choose("first come")
        runs = {f"linear_{kind}": getattr(self, f"linear_{kind}") for kind in ("fp8", "int4", "int8")}
        self.versions = {name: Version(run, False, lambda: "compiled for CUDA, on a GPU") for name, run in runs.items()}

    def linear_fp8(self, x, weight, bias=None, kind="fp8"):
        arrays = self.put(weight.values), self.put(weight.scale)
        return self.product(kind, x, byte_weight(*arrays), bias)

    def linear_int8(self, x, weight, bias=None):
        return self.linear_fp8(x, weight, bias, "int8")

    def linear_int4(self, x, weight, bias=None):
        arrays = [self.put(tensor) for tensor in weight[:3]]  # which keep the memory of the structure
        structure = int4_weight(*arrays)
        if weight.order is not None:
            sizes = dtype_name(x.dtype), x.size // structure.k, structure.k
            x = self.run("gather_columns", x.shape, sizes[0], self.put(x), self.put(weight.order), *sizes)
        return self.product("int4", x, structure, bias)

    def product(self, kind: str, x, weight, bias):
        dtype, rows = dtype_name(x.dtype), x.size // weight.k
        bias = None if bias is None else bias.astype(dtype)
        if rows <= FEW_ROWS:
            shape = [*x.shape[:-1], weight.n]
            return self.run(f"linear_{kind}", shape, dtype, self.put(x), weight, self.put(bias), dtype, rows)
        y = paddle.matmul(
            x, self.run(f"dequantize_{kind}", [weight.n, weight.k], dtype, weight, dtype), transpose_y=True
        )
        return y if bias is None else y + bias

    def put(self, tensor: paddle.Tensor | None) -> Array | None:
        if tensor is None:
            return None
        dtype = dtype_name(tensor.dtype)
        return self.emulator.put((tensor.astype("float32") if dtype == "bfloat16" else tensor).numpy(), dtype)

    def run(self, name: str, shape: list[int], dtype: str, *arguments) -> paddle.Tensor:
        """What a function writes to its last argument."""
        self.calls[name] += 1
        out = self.emulator.empty(shape, dtype)
        self.emulator.run(name, *arguments, out)
        return paddle.to_tensor(out.read(), "float32").astype(dtype)
