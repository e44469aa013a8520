"""The compiled operations of `external_ops`, behind the signatures of the plain ones."""

from __future__ import annotations

import paddle
import paddlemix_qwenvl_ops
from paddle import Tensor
from paddlemix_qwenvl_ops import run as _run

from ..threads import thread_count
from . import reference_linear
from .int8 import Int8Weight

__all__ = [
    "cached_attention",
    "decode_attention",
    "encode_rotary_qk",
    "get_padding_offset",
    "layer_norm",
    "linear",
    "linear_int8",
    "log_probability",
    "qkv_attention",
    "qkv_transpose_split",
    "qkv_write_cache",
    "quantize_int8",
    "rebuild_padding",
    "rms_norm",
    "sample",
    "sample_with_settings",
    "swiglu",
    "transpose_remove_padding",
    "varlen_attention",
    "write_cache_kv",
]

INTERFACE = 2
if getattr(paddlemix_qwenvl_ops, "INTERFACE", 1) != INTERFACE:
    raise ImportError("it was built from another version of external_ops")
paddlemix_qwenvl_ops.set_threads(thread_count())

DIFFERENTIABLE = paddlemix_qwenvl_ops.DIFFERENTIABLE
ON_GPU = frozenset()
if paddlemix_qwenvl_ops.HAS_CUDA:
    _CPU_ALONE = {"linear", "linear_int8", "log_probability", "quantize_int8", "rms_norm", "swiglu"}
    ON_GPU = frozenset(__all__) - _CPU_ALONE - {"qkv_attention", "varlen_attention"}


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, residual: Tensor | None = None):
    weight = _for_now(weight)
    if residual is None:
        return _run("qwenvl_rms_norm", x, weight, epsilon)[0]
    y, total = _run("qwenvl_add_rms_norm", x, weight, residual, epsilon)
    return y, total


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, residual: Tensor | None = None):
    weight, bias = _for_now(weight), _for_now(bias)
    if residual is None:
        return _run("qwenvl_layer_norm", x, weight, bias, epsilon)[0]
    y, total = _run("qwenvl_add_layer_norm", x, weight, bias, residual, epsilon)
    return y, total


def _for_now(weight: Tensor) -> Tensor:
    """Operations with a gradient keep what they need for it, even under `no_grad`, if a weight looks trainable."""
    return weight if paddle.is_grad_enabled() or not paddle.in_dynamic_mode() else weight.detach()


def swiglu(gate_up: Tensor) -> Tensor:
    return _run("qwenvl_swiglu", gate_up)[0]


def encode_rotary_qk(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    q, k = _run("qwenvl_encode_rotary_qk", q, k, cos, sin)
    return q, k


def qkv_transpose_split(
    qkv: Tensor, cos: Tensor, sin: Tensor, num_heads: int, num_kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = _run("qwenvl_qkv_transpose_split", qkv, cos, sin, num_heads, num_kv_heads)
    return q, k, v


def write_cache_kv(
    k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, rows: Tensor, slots: Tensor
) -> tuple[Tensor, Tensor]:
    k_cache, v_cache = _run("qwenvl_write_cache_kv", k, v, k_cache, v_cache, rows, slots)
    return k_cache, v_cache


def qkv_write_cache(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    rows: Tensor,
    slots: Tensor,
    num_heads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    q, k_cache, v_cache = _run("qwenvl_qkv_write_cache", qkv, cos, sin, k_cache, v_cache, rows, slots, num_heads)
    return q, k_cache, v_cache


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _run("qwenvl_varlen_attention", q, k, v, cu_seqlens_q, cu_seqlens_k, causal, scale)[0]


def qkv_attention(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    cu_seqlens: Tensor,
    num_heads: int,
    num_kv_heads: int,
    causal: bool = False,
) -> Tensor:
    scale = (2 * cos.shape[-1]) ** -0.5
    return _run("qwenvl_qkv_attention", qkv, cos, sin, cu_seqlens, num_heads, num_kv_heads, causal, scale)[0]


def cached_attention(q: Tensor, k_cache: Tensor, v_cache: Tensor, cu_seqlens: Tensor, lengths: Tensor) -> Tensor:
    return _run("qwenvl_cached_attention", q, k_cache, v_cache, cu_seqlens, lengths, q.shape[-1] ** -0.5)[0]


def decode_attention(q: Tensor, k_cache: Tensor, v_cache: Tensor, lengths: Tensor) -> Tensor:
    return _run("qwenvl_decode_attention", q, k_cache, v_cache, lengths, q.shape[-1] ** -0.5)[0]


def get_padding_offset(attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    indices, cu_seqlens = _run("qwenvl_get_padding_offset", attention_mask)
    return indices, cu_seqlens


def transpose_remove_padding(x: Tensor, indices: Tensor) -> Tensor:
    return _run("qwenvl_transpose_remove_padding", x, indices)[0]


def rebuild_padding(x: Tensor, indices: Tensor, batch: int, length: int) -> Tensor:
    return _run("qwenvl_rebuild_padding", x, indices, batch, length)[0]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if paddle.in_dynamic_mode() and paddle.is_grad_enabled() and not (x.stop_gradient and weight.stop_gradient):
        y = reference_linear.linear(x, weight)
        return y if bias is None else _run("qwenvl_add_bias", y, bias)[0]
    return _run("qwenvl_linear", x, weight, None, bias)[0]


def linear_int8(x: Tensor, weight: Int8Weight, bias: Tensor | None = None) -> Tensor:
    return _run("qwenvl_linear", x, weight.values, weight.scale, bias)[0]


def quantize_int8(weight: Tensor, largest: Tensor | None = None) -> Int8Weight:
    if largest is None:
        return Int8Weight(*_run("qwenvl_quantize_int8", weight))
    # The operation finds the largest of each row in what it is given.
    column = largest.unsqueeze(-1).astype(weight.dtype)
    values, scale = _run("qwenvl_quantize_int8", paddle.concat([weight, column], axis=-1))
    return Int8Weight(values[:, :-1].contiguous(), scale)


def sample(
    logits: Tensor,
    seen: Tensor | None,
    temperature: float,
    top_k: int,
    top_p: float,
    repetition_penalty: float,
    uniform: Tensor,
) -> Tensor:
    return _run(
        "qwenvl_sample", logits, seen, uniform, float(temperature), top_k, float(top_p), float(repetition_penalty)
    )[0]


def sample_with_settings(logits: Tensor, seen: Tensor, settings: Tensor, uniform: Tensor) -> Tensor:
    return _run("qwenvl_sample_with_settings", logits, seen, settings, uniform)[0]


def log_probability(logits: Tensor, token_ids: Tensor) -> Tensor:
    return _run("qwenvl_log_probability", logits, token_ids)[0]
