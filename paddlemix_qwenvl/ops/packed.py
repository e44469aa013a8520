"""Linear layers: plain ones for training, and weights packed once at load for inference."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from ..errors import OpsError

DTYPES = ("float32", "bfloat16", "float16", "int8")


class PackedWeight(nn.Layer):
    """A weight [in, out] in the form `packed_linear` wants.

    A layer that assigns one to an attribute owns its tensors as buffers, so static export takes them along; they are
    not part of a state dict.

    Attributes:
        data: the weight; its layout belongs to whoever packed it.
        scales: [out] float32, what one step of an int8 weight is worth; None for other dtypes.
        in_features, out_features, weight_dtype: of the weight before packing.
    """

    def __init__(self, data: Tensor, scales: Tensor | None, in_features: int, out_features: int, weight_dtype: str):
        super().__init__()
        self.in_features, self.out_features, self.weight_dtype = in_features, out_features, weight_dtype
        self.register_buffer("data", data, persistable=False)
        self.register_buffer("scales", scales, persistable=False)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight + bias` with weight [in, out]; a weight of another dtype is cast to that of `x`. Differentiable."""
    if weight.dtype != x.dtype:
        weight = weight.astype(x.dtype)
    return F.linear(x, weight, bias if bias is None or bias.dtype == x.dtype else bias.astype(x.dtype))


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 by output channel: weight [in, out] -> (int8 [in, out], float32 steps [out])."""
    wide = weight.astype("float32")
    scales = wide.abs().max(0) / 127
    steps = paddle.where(scales > 0, scales, paddle.ones_like(scales))
    return (wide / steps).round().clip(-127, 127).astype("int8"), scales


def pack_linear(weight: Tensor, dtype: str) -> PackedWeight:
    """Pack a weight [in, out] as `dtype`, one of float32, bfloat16, float16 or int8 (symmetric, by output channel)."""
    if dtype not in DTYPES:
        raise OpsError(f"cannot pack a weight as {dtype!r}; choose one of {', '.join(DTYPES)}")
    in_features, out_features = weight.shape
    data, scales = quantize(weight) if dtype == "int8" else (weight.astype(dtype), None)
    return PackedWeight(data.detach(), scales, in_features, out_features, dtype)


def packed_linear(x: Tensor, packed: PackedWeight, bias: Tensor | None = None) -> Tensor:
    """`x @ weight + bias` for x [..., in] and a weight from `pack_linear` -> [..., out] in the dtype of `x`."""
    weight = packed.data.astype("float32")
    y = paddle.matmul(x.astype("float32"), weight)
    if packed.scales is not None:
        y = y * packed.scales
    return (y if bias is None else y + bias.astype("float32")).astype(x.dtype)
