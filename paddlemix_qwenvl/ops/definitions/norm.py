"""Norms over the last axis, of a sum too."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from ..cast import to_float32


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, residual: Tensor | None = None):
    """Root-mean-square norm over the last axis (Zhang & Sennrich 2019), statistics in float32.

    Args:
        x: [..., N].
        weight: [N].
        epsilon: added to the mean square.
        residual: [..., N], added to `x` first.

    Returns:
        The normalised tensor, or with a residual the pair (normalised sum, sum).
    """
    total = _add(x, residual)
    wide = to_float32(total)
    inverse = paddle.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    y = (wide * inverse * to_float32(weight)).astype(x.dtype)
    return y if residual is None else (y, total)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, residual: Tensor | None = None):
    """Layer norm over the last axis (Ba et al. 2016), statistics in float32.

    Args:
        x: [..., N].
        weight, bias: [N].
        epsilon: added to the variance.
        residual: [..., N], added to `x` first.

    Returns:
        The normalised tensor, or with a residual the pair (normalised sum, sum).
    """
    total = _add(x, residual)
    y = F.layer_norm(to_float32(total), total.shape[-1], to_float32(weight), to_float32(bias), epsilon).astype(x.dtype)
    return y if residual is None else (y, total)


def _add(x: Tensor, residual: Tensor | None) -> Tensor:
    return x if residual is None else (to_float32(x) + to_float32(residual)).astype(x.dtype)
