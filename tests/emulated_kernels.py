"""Operations on Paddle's tensors by the CUDA kernels on the emulator, called as external_ops/csrc/bind/gpu.cc calls them."""

from __future__ import annotations

from collections import Counter

import paddle
from gpu.machine import Array, Emulator, int4_weight

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
        self.versions = {"linear_int4": Version(self.linear_int4, False, lambda: "compiled for CUDA, on a GPU")}

    def linear_int4(self, x, weight, bias=None):
        dtype, rows, (outputs, inputs) = (
            dtype_name(x.dtype),
            x.size // x.shape[-1],
            (weight.values.shape[0], x.shape[-1]),
        )
        arrays = [self.put(tensor) for tensor in weight[:3]]  # which keep the memory of the structure
        structure, given, added = int4_weight(*arrays), self.put(x), bias if bias is None else bias.astype(dtype)
        if weight.order is not None:
            given = self.run("gather_columns", x.shape, dtype, given, self.put(weight.order), dtype, rows, inputs)
        if rows <= FEW_ROWS:
            shape = [*x.shape[:-1], outputs]
            return self.tensor(self.run("linear_int4", shape, dtype, given, structure, self.put(added), dtype, rows))
        numbers = self.tensor(self.run("dequantize_int4", [outputs, inputs], dtype, structure, dtype))
        y = paddle.matmul(self.tensor(given), numbers, transpose_y=True)
        return y if added is None else y + added

    def put(self, tensor: paddle.Tensor | None) -> Array | None:
        if tensor is None:
            return None
        dtype = dtype_name(tensor.dtype)
        return self.emulator.put((tensor.astype("float32") if dtype == "bfloat16" else tensor).numpy(), dtype)

    def tensor(self, array: Array) -> paddle.Tensor:
        return paddle.to_tensor(array.read(), "float32").astype(array.dtype)

    def run(self, name: str, shape: list[int], dtype: str, *arguments) -> Array:
        """What a function writes to its last argument."""
        self.calls[name] += 1
        out = self.emulator.empty(shape, dtype)
        self.emulator.run(name, *arguments, out)
        return out
