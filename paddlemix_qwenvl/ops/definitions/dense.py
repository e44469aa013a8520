"""Products with weights held as the Hub holds them, row-major `[out, in]`, and token embeddings."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from ..cast import activation_dtype, cast, to_float32
from ..int8 import Int8Weight
from .activation import swiglu

_BLOCK = 1 << 22  # numbers that are quantised at a time


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x W^T + bias`. On the CPU narrow weights may round the product: external_ops/README.md says how.

    Args:
        x: [..., in].
        weight: [out, in].
        bias: [out].

    Returns:
        [..., out] in the dtype of `x`.
    """
    y = paddle.matmul(x, cast(weight, x.dtype), transpose_y=True)
    return y if bias is None else y + cast(bias, x.dtype)


def quantize_int8(weight: Tensor, largest: Tensor | None = None) -> Int8Weight:
    """Symmetric int8 by output channel.

    Args:
        weight: [out, in].
        largest: float32 [out], what 127 stands for in each row; the row's largest magnitude if None.

    Returns:
        An `Int8Weight` whose values lie row by row.
    """
    rows = max(1, _BLOCK // weight.shape[1])  # at a time: the float32 values between take far more than the result
    blocks = [slice(start, start + rows) for start in range(0, weight.shape[0], rows)]
    if largest is None:
        largest = paddle.concat([weight[block].astype("float32").abs().max(-1) for block in blocks])
    scale = largest / 127
    return Int8Weight(paddle.concat([_quantized(weight[block], scale[block]) for block in blocks]), scale)


def linear_int8(x: Tensor, weight: Int8Weight, bias: Tensor | None = None) -> Tensor:
    """`linear` with an int8 weight. Its values are scaled before they are summed, as float16 ends at 65 504, by steps that are not
    rounded to the dtype of `x`, which would move all of a row alike.

    Args:
        x: [..., in].
        weight: of [out, in], its values row by row.
        bias: [out].

    Returns:
        [..., out] in the dtype of `x`.
    """
    numbers = to_float32(weight.values) * to_float32(weight.scale).unsqueeze(-1)
    return linear(x, cast(numbers, x.dtype), bias)


def linear_swiglu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`swiglu` of a `linear`, which is nowhere in memory as a whole.

    Args:
        x: [..., in].
        weight: [2 I, in], the gate's rows first.
        bias: [2 I].

    Returns:
        [..., I] in the dtype of `x`.
    """
    return swiglu(linear(x, weight, bias))


def linear_int8_swiglu(x: Tensor, weight: Int8Weight, bias: Tensor | None = None) -> Tensor:
    """`linear_swiglu` with an int8 weight, its values row by row."""
    return swiglu(linear_int8(x, weight, bias))


def embedding(ids: Tensor, weight: Tensor) -> Tensor:
    """Rows of an embedding.

    Args:
        ids: [...] int.
        weight: [V, N].

    Returns:
        [..., N] in the activations' dtype.
    """
    return cast(F.embedding(ids, weight), activation_dtype(weight.dtype))


def embedding_int8(ids: Tensor, weight: Int8Weight, dtype: str) -> Tensor:
    """Rows of an int8 embedding.

    Args:
        ids: [...] int.
        weight: of [V, N], its values row by row.
        dtype: of the result.

    Returns:
        [..., N] in `dtype`.
    """
    steps = F.embedding(ids, weight.scale.unsqueeze(-1))
    return F.embedding(ids, weight.values).astype(dtype) * cast(steps, dtype)


def _quantized(weight: Tensor, scale: Tensor) -> Tensor:
    steps = paddle.where(scale > 0, scale, paddle.ones_like(scale)).unsqueeze(-1)
    return (weight.astype("float32") / steps).round().clip(-127, 127).astype("int8")
