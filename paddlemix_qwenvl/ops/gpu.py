"""Paddle's own fused GPU operations behind the signatures of the plain ones: every call of them is in this file.

What they have no kernel for (a dtype, a size, an older card) goes the plain way.
"""

from __future__ import annotations

import functools

import paddle
from paddle import Tensor
from paddle.incubate.nn.functional import fused_rms_norm
from paddle.nn.functional import swiglu as fused_swiglu
from paddle.nn.functional.flash_attention import flash_attn_unpadded
from paddle.nn.quant import weight_only_linear, weight_quantize

from . import reference_attention, reference_linear

__all__ = ["linear_int8", "quantize_int8", "rms_norm", "swiglu", "varlen_attention"]

DIFFERENTIABLE = frozenset({"swiglu", "varlen_attention"})
_HALVES = (paddle.float16, paddle.bfloat16)
_FLASH_CAPABILITY = (8, 0)  # Ampere
_FLASH_LARGEST_HEAD = 256


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, residual: Tensor | None = None):
    y, total = fused_rms_norm(x, weight.astype(x.dtype), None, epsilon, x.ndim - 1, residual=residual)[:2]
    return y if residual is None else (y, total)


def swiglu(gate_up: Tensor) -> Tensor:
    return fused_swiglu(gate_up)


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    head_dim = q.shape[-1]
    if not _flash(q.dtype, head_dim):
        return reference_attention.varlen_attention(q, k, v, cu_seqlens_q, cu_seqlens_k, causal, scale)
    longest_q, longest_k = _longest(cu_seqlens_q), _longest(cu_seqlens_k)
    scale = head_dim**-0.5 if scale is None else scale
    return flash_attn_unpadded(
        q, k, v, cu_seqlens_q, cu_seqlens_k, longest_q, longest_k, scale, causal=causal, training=not q.stop_gradient
    )[0]


def _flash(dtype, head_dim: int) -> bool:
    fits = dtype in _HALVES and head_dim % 8 == 0 and head_dim <= _FLASH_LARGEST_HEAD
    return fits and paddle.in_dynamic_mode() and _capability() >= _FLASH_CAPABILITY


@functools.cache
def _capability() -> tuple[int, int]:
    return paddle.device.cuda.get_device_capability()


def _longest(cu_seqlens: Tensor) -> int:
    """Tokens of the longest segment, remembered with the tensor: asking the device again in each layer would wait for it."""
    longest = getattr(cu_seqlens, "longest", None)
    if longest is None:
        longest = cu_seqlens.longest = int((cu_seqlens[1:] - cu_seqlens[:-1]).max())
    return longest


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """In the order of bytes that Paddle's kernel wants for this card: good for `linear_int8` here and nowhere else."""
    if not _weight_only(weight.dtype, *weight.shape):
        return reference_linear.quantize_int8(weight)
    quantized, scale = weight_quantize(weight.t(), "weight_only_int8")
    return quantized, scale


def linear_int8(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    if not _weight_only(x.dtype, *weight.shape):
        return reference_linear.linear_int8(x, weight, scale, bias)
    bias = None if bias is None else bias.astype(x.dtype)
    return weight_only_linear(x, weight, bias, scale, "int8")


def _weight_only(dtype, outputs: int, inputs: int) -> bool:
    """Whether Paddle multiplies by int8 weights of this size; activations have the dtype that the weight had."""
    return dtype in _HALVES and outputs % 16 == 0 and inputs % 64 == 0
