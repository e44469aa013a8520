"""The compiled operations of `external_ops`: what each is called with where that differs from its definition, and their table."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import paddle
import paddlemix_qwenvl_ops as library
from paddle import Tensor

from ..threads import thread_count
from . import definitions
from .cast import cast
from .int8 import Int8Weight
from .version import Version

INTERFACE = 9
if getattr(library, "INTERFACE", 1) != INTERFACE:
    raise ImportError("it was built from another version of external_ops")

CPU: dict[str, Version] = {}
GPU: dict[str, Version] = {}  # of a library that HAS_CUDA
HAS_CUDA = library.HAS_CUDA


def _run(kernel: str, *args) -> list[Tensor]:
    """What an operation gives: at once where no gradient is asked for and no graph is traced, otherwise by Paddle's way."""
    if kernel in library.DIRECT and paddle.in_dynamic_mode() and not paddle.is_grad_enabled():
        return library.DIRECT[kernel](*args)
    return library.run(kernel, *args)


def _kernel(name: str) -> str:
    """What Paddle calls a kernel. Raises ImportError where the library was built without it."""
    if f"qwenvl_{name}" not in library.OPERATIONS:
        raise ImportError(f"it was built from another version of external_ops, without {name}")
    return f"qwenvl_{name}"


def _forward(name: str) -> Callable:
    """The kernel of an operation that takes what its definition takes, in the same order."""
    kernel, signature = _kernel(name), inspect.signature(getattr(definitions, name))

    def run(*args, **kwargs):
        if kwargs:
            args = signature.bind(*args, **kwargs).args
        outputs = _run(kernel, *args)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    return run


_ADD_BIAS, _LINEAR, _LINEAR_SWIGLU = map(_kernel, ("add_bias", "linear", "linear_swiglu"))
_QUANTIZE_INT8 = _kernel("quantize_int8")
_LINEAR_INT4, _LINEAR_INT4_SWIGLU = map(_kernel, ("linear_int4", "linear_int4_swiglu"))
_RMS_NORM, _ADD_RMS_NORM = map(_kernel, ("rms_norm", "add_rms_norm"))
_LAYER_NORM, _ADD_LAYER_NORM = map(_kernel, ("layer_norm", "add_layer_norm"))
_VARLEN_ATTENTION, _QKV_ATTENTION = map(_kernel, ("varlen_attention", "qkv_attention"))
_NARROW_QKV_ATTENTION = _kernel("narrow_qkv_attention")
_CACHED_ATTENTION, _DECODE_ATTENTION = map(_kernel, ("cached_attention", "decode_attention"))
_QKV_DECODE_ATTENTION = _kernel("qkv_decode_attention")
_MROPE_TABLES, _EMBEDDING, _SAMPLE = map(_kernel, ("mrope_tables", "embedding", "sample"))


def rms_norm(x, weight, epsilon, residual=None):
    weight = _for_now(weight)
    if residual is None:
        return _run(_RMS_NORM, x, weight, epsilon)[0]
    y, total = _run(_ADD_RMS_NORM, x, weight, residual, epsilon)
    return y, total


def layer_norm(x, weight, bias, epsilon, residual=None):
    weight, bias = _for_now(weight), _for_now(bias)
    if residual is None:
        return _run(_LAYER_NORM, x, weight, bias, epsilon)[0]
    y, total = _run(_ADD_LAYER_NORM, x, weight, bias, residual, epsilon)
    return y, total


def _for_now(weight: Tensor) -> Tensor:
    """By Paddle's way operations with a gradient keep what they need for it, even under `no_grad`, if a weight looks trainable."""
    if library.DIRECT or paddle.is_grad_enabled() or not paddle.in_dynamic_mode():
        return weight
    return weight.detach()


def varlen_attention(q, k, v, cu_seqlens_q, cu_seqlens_k, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _run(_VARLEN_ATTENTION, q, k, v, cu_seqlens_q, cu_seqlens_k, causal, scale)[0]


def qkv_attention(qkv, cos, sin, cu_seqlens, num_heads, num_kv_heads, causal=False, narrow=False):
    scale = (2 * cos.shape[-1]) ** -0.5
    kernel = _NARROW_QKV_ATTENTION if narrow else _QKV_ATTENTION
    return _run(kernel, qkv, cos, sin, cu_seqlens, num_heads, num_kv_heads, causal, scale)[0]


def cached_attention(q, k_cache, v_cache, cu_seqlens, block_tables, lengths):
    return _run(_CACHED_ATTENTION, q, k_cache, v_cache, cu_seqlens, block_tables, lengths, q.shape[-1] ** -0.5)[0]


def decode_attention(q, k_cache, v_cache, block_tables, lengths):
    return _run(_DECODE_ATTENTION, q, k_cache, v_cache, block_tables, lengths, q.shape[-1] ** -0.5)[0]


def qkv_decode_attention(qkv, cos, sin, k_cache, v_cache, slot_mapping, block_tables, lengths, num_heads):
    scale = k_cache.shape[-1] ** -0.5
    tensors = qkv, cos, sin, k_cache, v_cache, slot_mapping, block_tables, lengths
    return tuple(_run(_QKV_DECODE_ATTENTION, *tensors, num_heads, scale))


def linear(x, weight, bias=None):
    if paddle.in_dynamic_mode() and paddle.is_grad_enabled() and not (x.stop_gradient and weight.stop_gradient):
        y = definitions.linear(x, weight)
        return y if bias is None else _run(_ADD_BIAS, y, bias)[0]
    return _run(_LINEAR, x, weight, None, bias)[0]


def linear_int8(x, weight, bias=None):
    return _run(_LINEAR, x, weight.values, weight.scale, bias)[0]


def linear_fp8(x, weight, bias=None):
    if weight.scale.ndim > 1:
        return linear(x, definitions.dequantize_fp8(weight, "float32"), bias)
    scale, outputs = weight.scale, weight.values.shape[:1]
    return _run(_LINEAR, x, weight.values, scale if scale.shape == outputs else scale.expand(outputs), bias)[0]


def linear_swiglu(x, weight, bias=None):
    return _run(_LINEAR_SWIGLU, x, weight, None, bias)[0]


def linear_int8_swiglu(x, weight, bias=None):
    return _run(_LINEAR_SWIGLU, x, weight.values, weight.scale, bias)[0]


def linear_int4(x, weight, bias=None):
    return _run(_LINEAR_INT4, x, *weight, bias)[0]


def linear_int4_swiglu(x, weight, bias=None):
    return _run(_LINEAR_INT4_SWIGLU, x, *weight, bias)[0]


def quantize_int8(weight, largest=None):
    if largest is None:
        return Int8Weight(*_run(_QUANTIZE_INT8, weight))
    # The operation finds the largest of each row in what it is given.
    column = largest.unsqueeze(-1).astype(weight.dtype)
    values, scale = _run(_QUANTIZE_INT8, paddle.concat([weight, column], axis=-1))
    return Int8Weight(values[:, :-1].contiguous(), scale)


def mrope_tables(position_ids, inv_freq, mrope_section=None):
    sections = mrope_section if position_ids.ndim > 1 else [inv_freq.shape[-1]]
    return tuple(_run(_MROPE_TABLES, position_ids, inv_freq, *sections, *[0] * (3 - len(sections))))


def embedding(ids, weight):
    return _run(_EMBEDDING, ids, weight, None)[0]


def embedding_int8(ids, weight, dtype):
    return cast(_run(_EMBEDDING, ids, weight.values, weight.scale)[0], dtype)


def sample(logits, settings, uniform, marks=None, allowed=None):
    return tuple(_run(_SAMPLE, logits, settings, uniform, *(marks or [None] * 4), allowed))


def _kernels() -> str:
    return f"compiled for {library.isa()}, {library.threads()} threads"


def _products() -> str:
    return f"compiled for {library.path()}, {library.threads()} threads, prompts in {library.product('bfloat16', 512)}"


def _register(name: str, run: Callable | None = None, differentiable=False, cuda=False, describe=_kernels) -> None:
    """A compiled version of an operation.

    Args:
        name: of the operation.
        run: called with the definition's arguments; None where the kernel takes them as they are.
        differentiable: it has a gradient, on the CPU.
        cuda: there is a CUDA kernel of it.
        describe: what runs on the CPU, for `ops.status()`.
    """
    run = run or _forward(name)
    CPU[name] = Version(run, differentiable, describe)
    if cuda:
        GPU[name] = Version(run, False, lambda: "compiled for CUDA, on a GPU")


_register("cached_attention", cached_attention, cuda=True)
_register("decode_attention", decode_attention, cuda=True)
_register("embedding", embedding)
_register("embedding_int8", embedding_int8)
_register("encode_rotary_qk", cuda=True)
_register("get_padding_offset", cuda=True)
_register("layer_norm", layer_norm, differentiable=True, cuda=True)
_register("linear", linear, differentiable=True, describe=_products)
_register("linear_int8", linear_int8, cuda=True, describe=_products)
_register("linear_fp8", linear_fp8, cuda=True, describe=_products)
_register("linear_int8_swiglu", linear_int8_swiglu, describe=_products)
_register("linear_int4", linear_int4, cuda=True, describe=_products)
_register("linear_int4_swiglu", linear_int4_swiglu, describe=_products)
_register("linear_swiglu", linear_swiglu, describe=_products)
_register("mrope_tables", mrope_tables)
_register("qkv_attention", qkv_attention)
_register("qkv_decode_attention", qkv_decode_attention, cuda=True)
_register("qkv_transpose_split", differentiable=True, cuda=True)
_register("qkv_write_cache", cuda=True)
_register("quantize_int8", quantize_int8)
_register("rebuild_padding", cuda=True)
_register("rms_norm", rms_norm, differentiable=True)
_register("sample", sample, cuda=True)
_register("swiglu", differentiable=True)
_register("transpose_remove_padding", cuda=True)
_register("varlen_attention", varlen_attention, differentiable=True)
_register("write_cache_kv", cuda=True)

library.set_threads(thread_count())
