"""Products with weights held as the Hub holds them, row-major `[out, in]`, and token embeddings."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor

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


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 by output channel: weight [out, in] -> (int8 [out, in], float32 steps [out])."""
    rows = max(1, _BLOCK // weight.shape[1])  # at a time: the float32 values between take far more than the result
    parts = [_quantized(weight[start : start + rows]) for start in range(0, weight.shape[0], rows)]
    return paddle.concat([part for part, _ in parts]), paddle.concat([scale for _, scale in parts])


def _quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    wide = weight.astype("float32")
    scale = wide.abs().max(-1) / 127
    steps = paddle.where(scale > 0, scale, paddle.ones_like(scale)).unsqueeze(-1)
    return (wide / steps).round().clip(-127, 127).astype("int8"), scale


def linear_int8(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear` with an int8 weight [out, in] whose row i is worth `scale[i]` a step."""
    y = paddle.matmul(x, weight.astype(x.dtype), transpose_y=True) * _as(scale, x.dtype)
    return y if bias is None else y + _as(bias, x.dtype)


def embedding(ids: Tensor, weight: Tensor) -> Tensor:
    """Rows `ids` [...] of weight [V, N] -> [..., N] in the activations' dtype. Differentiable."""
    return _as(F.embedding(ids, weight), activation_dtype(weight.dtype))


def embedding_int8(ids: Tensor, weight: Tensor, scale: Tensor, dtype: str) -> Tensor:
    """Rows `ids` [...] of an int8 weight [V, N], row i worth `scale[i]` a step -> [..., N] in `dtype`."""
    return F.embedding(ids, weight).astype(dtype) * _as(F.embedding(ids, scale.unsqueeze(-1)), dtype)


def _as(x: Tensor, dtype) -> Tensor:
    return x if x.dtype == dtype else x.astype(dtype)
