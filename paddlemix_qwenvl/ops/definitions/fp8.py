"""Products with float8 weights."""

from __future__ import annotations

import paddle
from paddle import Tensor

from ..fp8 import Fp8Weight
from .dense import linear


def dequantize_fp8(weight: Fp8Weight, dtype: str) -> Tensor:
    """An fp8 weight's numbers.

    Args:
        weight: of [out, in].
        dtype: of the result.

    Returns:
        [out, in].
    """
    bits = weight.values.astype("int32")
    exponent, fraction = bits // 8 % 16, (bits % 8).astype("float32")
    normal = (1 + fraction / 8) * 2.0 ** (exponent - 7).astype("float32")
    magnitude = paddle.where(exponent == 0, fraction / 512, normal)
    magnitude = paddle.where(bits % 128 == 127, paddle.full_like(magnitude, float("nan")), magnitude)
    numbers = paddle.where(bits < 128, magnitude, -magnitude)
    return (numbers * _spread(weight)).astype(dtype)


def linear_fp8(x: Tensor, weight: Fp8Weight, bias: Tensor | None = None) -> Tensor:
    """`linear` with an fp8 weight.

    Args:
        x: [..., in].
        weight: of [out, in].
        bias: [out].

    Returns:
        [..., out] in the dtype of `x`.
    """
    return linear(x, dequantize_fp8(weight, x.dtype), bias)


def _spread(weight: Fp8Weight) -> Tensor:
    """What the numbers are multiplied by, as far as Paddle does not spread it by itself."""
    scale, (rows, columns), (height, width) = weight.scale.astype("float32"), weight.values.shape, weight.block
    if scale.ndim == 1:
        return scale.unsqueeze(-1)
    return scale.repeat_interleave(height, 0).repeat_interleave(width, 1)[:rows, :columns]
