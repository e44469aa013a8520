"""Products with int4 weights."""

from __future__ import annotations

import paddle
from paddle import Tensor

from ..int4 import MIDDLE, Int4Weight
from .activation import swiglu
from .dense import linear


def dequantize_int4(weight: Int4Weight, dtype: str) -> Tensor:
    """An int4 weight's numbers, with the inputs in the order of x.

    Args:
        weight: of [out, in].
        dtype: of the result.

    Returns:
        [out, in].
    """
    rows, groups = weight.scale.shape
    bytes_ = weight.values.astype("int32")
    steps = paddle.stack([bytes_ % 16, bytes_ // 16], axis=-1).reshape([rows, groups, weight.group_size])
    zeros = MIDDLE if weight.zeros is None else weight.zeros.astype("int32").unsqueeze(-1)
    numbers = (steps - zeros).astype("float32") * weight.scale.astype("float32").unsqueeze(-1)
    numbers = numbers.reshape([rows, -1])
    if weight.order is not None:
        numbers = paddle.index_select(numbers, paddle.argsort(weight.order), axis=1)
    return numbers.astype(dtype)


def linear_int4(x: Tensor, weight: Int4Weight, bias: Tensor | None = None) -> Tensor:
    """`linear` with an int4 weight.

    Args:
        x: [..., in].
        weight: of [out, in].
        bias: [out].

    Returns:
        [..., out] in the dtype of `x`.
    """
    return linear(x, dequantize_int4(weight, x.dtype), bias)


def linear_int4_swiglu(x: Tensor, weight: Int4Weight, bias: Tensor | None = None) -> Tensor:
    """`linear_swiglu` with an int4 weight."""
    return swiglu(linear_int4(x, weight, bias))
