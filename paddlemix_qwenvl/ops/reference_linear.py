"""Products with weights held as the Hub holds them, row-major `[out, in]`, and token embeddings."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from .int8 import Int8Weight

__all__ = [
    "activation_dtype",
    "embedding",
    "embedding_int8",
    "linear",
    "linear_int8",
    "quantize_int8",
]

_BLOCK = 1 << 22  # numbers that are quantised at a time


def activation_dtype(weight_dtype) -> str:
    """The dtype activations take beside weights of `weight_dtype`: float32 on CPU, the weights' own on a GPU."""
    if paddle.get_device() == "cpu":  # the expected place is unknown while a graph is traced
        return "float32"
    return str(weight_dtype).rpartition(".")[2]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x W^T + bias` for x [..., in], weight [out, in], bias [out] -> [..., out] in the dtype of `x`. Differentiable."""
    y = paddle.matmul(x, _as(weight, x.dtype), transpose_y=True)
    return y if bias is None else y + _as(bias, x.dtype)


def quantize_int8(weight: Tensor, largest: Tensor | None = None) -> Int8Weight:
    """Symmetric int8 by output channel.

    Args:
        weight: [out, in].
        largest: float32 [out], what 127 stands for in each row; the row's largest magnitude if None.
    """
    rows = max(1, _BLOCK // weight.shape[1])  # at a time: the float32 values between take far more than the result
    blocks = [slice(start, start + rows) for start in range(0, weight.shape[0], rows)]
    if largest is None:
        largest = paddle.concat([weight[block].astype("float32").abs().max(-1) for block in blocks])
    scale = largest / 127
    return Int8Weight(paddle.concat([_quantized(weight[block], scale[block]) for block in blocks]), scale)


def _quantized(weight: Tensor, scale: Tensor) -> Tensor:
    steps = paddle.where(scale > 0, scale, paddle.ones_like(scale)).unsqueeze(-1)
    return (weight.astype("float32") / steps).round().clip(-127, 127).astype("int8")


def linear_int8(x: Tensor, weight: Int8Weight, bias: Tensor | None = None) -> Tensor:
    """`linear` with a weight whose values lie row by row. They are scaled before they are summed: float16 ends at 65 504."""
    return linear(x, weight.values.astype(x.dtype) * _as(weight.scale, x.dtype).unsqueeze(-1), bias)


def embedding(ids: Tensor, weight: Tensor) -> Tensor:
    """Rows `ids` [...] of weight [V, N] -> [..., N] in the activations' dtype. Differentiable."""
    return _as(F.embedding(ids, weight), activation_dtype(weight.dtype))


def embedding_int8(ids: Tensor, weight: Int8Weight, dtype: str) -> Tensor:
    """Rows `ids` [...] of a weight [V, N] whose values lie row by row -> [..., N] in `dtype`."""
    steps = F.embedding(ids, weight.scale.unsqueeze(-1))
    return F.embedding(ids, weight.values).astype(dtype) * _as(steps, dtype)


def _as(x: Tensor, dtype) -> Tensor:
    return x if x.dtype == dtype else x.astype(dtype)
