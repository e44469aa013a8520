"""Paddle's own fused GPU operations behind the signatures of the plain ones: every call of them is in this file.

What they have no kernel for (a dtype, a size) goes the plain way, and so does what this Paddle or this card has not: `refusal` says
why. Paddle's functions are asked rather than its versions: each is tried once on the card.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from . import definitions
from .cast import cast
from .int8 import Int8Weight
from .version import Version

FUNCTIONS = {
    "flash_attn_unpadded": ("paddle.nn.functional.flash_attention",),
    "fused_matmul_bias": ("paddle.incubate.nn.functional",),
    "fused_rms_norm": ("paddle.incubate.nn.functional",),
    "swiglu": ("paddle.nn.functional", "paddle.incubate.nn.functional"),  # since 3.3, and before
    "variable_length_memory_efficient_attention": ("paddle.incubate.nn.functional",),
    "weight_only_linear": ("paddle.nn.quant",),
    "weight_quantize": ("paddle.nn.quant",),
}
"""Paddle's functions, and the modules that have had them; tests/ops/paddle_signatures.json holds what each version has."""

_HALVES = (paddle.float16, paddle.bfloat16)
_LARGEST = 65504.0  # of float16
_FLASH_CAPABILITY = (8, 0)  # Ampere
_FLASH_LARGEST_HEAD = 256
_BYTE_INPUTS = 32  # what the inputs of an int8 or fp8 weight are a multiple of in CUDA
_FEW = 4  # new tokens a row
_INT8_OUTPUTS, _INT8_INPUTS = 16, 64  # what the sizes of an arranged weight are multiples of
_BIAS_SIZES = 8  # what the sizes of a product that adds its bias itself are multiples of


def find(name: str):
    """One of Paddle's FUNCTIONS, None where this Paddle has none."""
    for module in FUNCTIONS[name]:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    return None


_paddle = SimpleNamespace(**{name: find(name) for name in FUNCTIONS})


def missing(operation: str) -> str:
    """Which function of Paddle's an operation lacks, as a sentence; empty if none."""
    names = [name for name in _OWN[operation].needs if getattr(_paddle, name) is None]
    return f"Paddle {paddle.__version__} has no {names[0]}" if names else ""


def refusal(operation: str) -> str:
    """Why an operation goes the plain way on the current card, whatever it is given; empty where it need not."""
    return missing(operation) or _tried(_OWN[operation].trial, paddle.get_device())


@functools.cache
def _tried(trial, device: str) -> str:
    """What is wrong with a `trial`, which gives what Paddle's function makes of some numbers, and what it should.

    While a graph is traced nothing can be tried: an export has asked for `ops.status()` before.
    """
    if trial is None:
        return ""
    try:
        with paddle.no_grad():
            found, wanted = (y.astype("float32") for y in trial())
            error = float((found - wanted).abs().max() / wanted.abs().max())
    except (AssertionError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        return str(error).strip().split("\n")[0]
    return "" if error < 0.05 else f"Paddle's results are {error:.0%} off on this card"


def _trains(x: Tensor) -> bool:
    return paddle.in_dynamic_mode() and paddle.is_grad_enabled() and not x.stop_gradient


def _numbers(*shape: int) -> Tensor:
    """Some float16 ones."""
    return paddle.arange(math.prod(shape), dtype="float32").sin().reshape(shape).astype("float16")


def rms_norm(x, weight, epsilon, residual=None):
    weight = weight.astype(x.dtype)
    y, total = _paddle.fused_rms_norm(x, weight, None, epsilon, x.ndim - 1, residual=residual)[:2]
    return y if residual is None else (y, total)


def linear(x, weight, bias=None):
    """With a bias in the product, where it may be there; graphs have passes of Paddle's for that."""
    fits = bias is not None and paddle.in_dynamic_mode() and not any(size % _BIAS_SIZES for size in weight.shape)
    if not fits or refusal("linear"):
        return definitions.linear(x, weight, bias)
    return _with_bias(x, cast(weight, x.dtype), cast(bias, x.dtype))


def _with_bias(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _paddle.fused_matmul_bias(x, weight, bias, transpose_y=True)


def _try_linear() -> tuple[Tensor, Tensor]:
    arguments = _numbers(6, 64), _numbers(16, 64), _numbers(16)
    return _with_bias(*arguments), definitions.linear(*arguments)


def swiglu(gate_up):
    return _paddle.swiglu(gate_up)


def varlen_attention(q, k, v, cu_seqlens_q, cu_seqlens_k, causal=False, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if _has_flash(q):
        return _flash(q, k, v, cu_seqlens_q, cu_seqlens_k, causal, scale)
    if cu_seqlens_q is cu_seqlens_k and not causal and _has_padded(q):
        return _padded(q, k, v, cu_seqlens_q, scale)
    return definitions.varlen_attention(q, k, v, cu_seqlens_q, cu_seqlens_k, causal, scale)


def cached_attention(q, k_cache, v_cache, cu_seqlens, block_tables, lengths, kernel=None):
    """Prompts by flash attention on keys and values taken out of their blocks.

    Args:
        kernel: takes the others, and, but in graphs, few new tokens a row: the one in CUDA, which reads the keys once a query.
    """
    has_flash = _has_flash(q)
    if kernel is not None and (not has_flash or _are_few(q, lengths)):
        return kernel(q, k_cache, v_cache, cu_seqlens, block_tables, lengths)
    if not has_flash:
        return definitions.cached_attention(q, k_cache, v_cache, cu_seqlens, block_tables, lengths)
    heads, block, size = k_cache.shape[1:]
    index, cu_seqlens_k = _places(cu_seqlens, block_tables, lengths, heads, block)
    k, v = (
        cache.reshape([-1, size]).gather(index).reshape([-1, heads, size]).astype(q.dtype)
        for cache in (k_cache, v_cache)
    )
    return _flash(q, k, v, cu_seqlens, cu_seqlens_k, True, size**-0.5)


def _are_few(q: Tensor, lengths: Tensor) -> bool:
    return paddle.in_dynamic_mode() and q.shape[0] <= _FEW * lengths.shape[0]


def _places(cu_seqlens: Tensor, block_tables: Tensor, lengths: Tensor, heads: int, block: int) -> tuple[Tensor, Tensor]:
    """Where heads `[D]` of keys are in a cache, token by token of the rows that have new ones, and where each row's tokens begin.

    Remembered with the lengths, as `_longest` is.
    """
    known = getattr(lengths, "places", None)
    if known is not None:
        return known
    seen = paddle.where(cu_seqlens[1:] > cu_seqlens[:-1], lengths, paddle.zeros_like(lengths))
    offsets = paddle.arange(block, dtype="int64")
    slots = (block_tables.astype("int64").unsqueeze(-1) * (heads * block) + offsets).flatten(1)
    filled = paddle.arange(slots.shape[1], dtype="int32") < seen.unsqueeze(1)
    index = paddle.masked_select(slots, filled).unsqueeze(-1) + paddle.arange(heads, dtype="int64") * block
    found = index.flatten(), F.pad(paddle.cumsum(seen, dtype="int32"), [1, 0])
    if paddle.in_dynamic_mode():
        lengths.places = found
    return found


def _has_flash(q: Tensor) -> bool:
    fits = q.dtype in _HALVES and q.shape[-1] % 8 == 0 and q.shape[-1] <= _FLASH_LARGEST_HEAD
    return fits and not refusal("varlen_attention")


def _flash(q, k, v, cu_seqlens_q, cu_seqlens_k, causal: bool, scale: float) -> Tensor:
    longest_q, longest_k = _longest(cu_seqlens_q), _longest(cu_seqlens_k)
    training = paddle.in_dynamic_mode() and not q.stop_gradient
    return _paddle.flash_attn_unpadded(
        q, k, v, cu_seqlens_q, cu_seqlens_k, longest_q, longest_k, scale, causal=causal, training=training
    )[0]


def _longest(cu_seqlens: Tensor) -> int | Tensor:
    """Tokens of the longest segment, remembered with the tensor: asking the device again in each layer would wait for it.

    In a graph it is a tensor, which Paddle's kernel reads itself. Values of graphs remember nothing.
    """
    known = getattr(cu_seqlens, "longest", None)
    if known is not None:
        return known
    longest = (cu_seqlens[1:] - cu_seqlens[:-1]).max()
    if not paddle.in_dynamic_mode():
        return longest.astype("int64")
    cu_seqlens.longest = int(longest)
    return cu_seqlens.longest


def _has_padded(q: Tensor) -> bool:
    """What pictures on V100, T4 and RTX 20 have in place of flash attention."""
    fits = q.dtype == paddle.float16 and q.shape[-1] % 8 == 0 and not _trains(q)
    return fits and not _padded_refusal()


def _padded_refusal() -> str:
    if _paddle.variable_length_memory_efficient_attention is None:
        return f"Paddle {paddle.__version__} has no variable_length_memory_efficient_attention"
    return _tried(_try_padded, paddle.get_device())


def _padded(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, scale: float) -> Tensor:
    """Each segment alone, filled up to the longest one's length; what Paddle's kernel makes of what fills up is left out."""
    begins, longest, tokens = cu_seqlens[:-1].astype("int64"), _longest(cu_seqlens), paddle.arange(q.shape[0])
    rows = (begins.unsqueeze(-1) + paddle.arange(longest)).clip(max=q.shape[0] - 1)  # [B, longest]
    segment = paddle.searchsorted(cu_seqlens[1:].astype("int64"), tokens, right=True)
    places = segment * longest + tokens - begins.gather(segment)
    shape = [-1, longest, q.shape[1], q.shape[2]]
    q, k, v = (x.gather(rows.flatten()).reshape(shape).transpose([0, 2, 1, 3]) for x in (q, k, v))
    lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).unsqueeze(-1)
    out = _paddle.variable_length_memory_efficient_attention(q, k, v, lengths, lengths, scale=scale)
    return out.transpose([0, 2, 1, 3]).flatten(0, 1).gather(places)


def _try_padded() -> tuple[Tensor, Tensor]:
    q, bounds = _numbers(8, 2, 64), paddle.to_tensor([0, 3, 8], dtype="int32")
    return _padded(q, q, q, bounds, 0.125), definitions.varlen_attention(q, q, q, bounds, bounds, False, 0.125)


def _try_flash() -> tuple[Tensor, Tensor]:
    capability = paddle.device.cuda.get_device_capability()
    if capability < _FLASH_CAPABILITY:
        raise NotImplementedError("flash attention needs compute capability 8.0, this is {}.{}".format(*capability))
    q, bounds = _numbers(5, 2, 64), paddle.to_tensor([0, 5], dtype="int32")
    arguments = q, q, q, bounds, bounds, True, 0.125
    return _flash(*arguments), definitions.varlen_attention(*arguments)


def quantize_int8(weight, largest=None, kernel=None):
    """Arranged for this card where Paddle has a kernel; each rank then goes by its own `largest`, whose steps are no wider.

    Paddle keeps steps in the dtype of the weight. Of bfloat16 they would be up to 0.2 % off, all a row's numbers alike: these are
    left to the `kernel` of `linear_int8` in CUDA, where there is one.
    """
    dtypes = _HALVES if kernel is None else (paddle.float16,)
    fits = weight.dtype in dtypes and weight.shape[0] % _INT8_OUTPUTS == 0
    if not fits or refusal("quantize_int8"):
        return definitions.quantize_int8(weight, largest)
    return _arranged(weight)


def _arranged(weight: Tensor) -> Int8Weight:
    filled = _filled(weight, -(-weight.shape[1] // _INT8_INPUTS) * _INT8_INPUTS)
    values, scale = _paddle.weight_quantize(filled.t(), "weight_only_int8")
    return Int8Weight(values, scale.astype(weight.dtype), arranged=True)


def _filled(x: Tensor, size: int) -> Tensor:
    """`x` [..., n] with zeros up to [..., size]."""
    if x.shape[-1] == size:
        return x
    return paddle.concat([x, paddle.zeros([*x.shape[:-1], size - x.shape[-1]], x.dtype)], axis=-1)


def linear_int8(x, weight, bias=None, kernel=None):
    """By Paddle's kernel if the weight is arranged for it, else by the `kernel` in CUDA, which has no gradient."""
    if not weight.arranged:
        fits = kernel is not None and not _trains(x) and weight.values.shape[1] % _BYTE_INPUTS == 0
        return (kernel if fits else definitions.linear_int8)(x, weight, bias)
    if x.dtype not in _HALVES:  # float32 sums beside float16
        x = x.clip(-_LARGEST, _LARGEST)
        return linear_int8(x.astype(weight.scale.dtype), weight, bias).astype("float32")
    bias = None if bias is None else bias.astype(x.dtype)
    x = _filled(x, weight.values.shape[1])
    return _paddle.weight_only_linear(x, weight.values, bias, weight.scale, "int8")


def linear_fp8(x, weight, bias=None, kernel=None):
    """By the `kernel` in CUDA, which has a scale for each output."""
    fits = weight.scale.ndim == 1 and weight.values.shape[1] % _BYTE_INPUTS == 0
    return (kernel if fits else definitions.linear_fp8)(x, weight, bias)


def _try_int8() -> tuple[Tensor, Tensor]:
    weight, x = _numbers(16, 64), _numbers(6, 64)
    arranged = _arranged(weight)
    parts = x[:1], x[1:]  # few rows have a kernel of their own
    return paddle.concat([linear_int8(part, arranged) for part in parts]), definitions.linear(x, weight)


class _Own(NamedTuple):
    """An operation on Paddle's own: the FUNCTIONS it needs, and a trial of them on the card; see `Version`."""

    run: Callable
    needs: tuple[str, ...]
    differentiable: bool = False
    trial: Callable | None = None


_OWN = {
    "cached_attention": _Own(cached_attention, ("flash_attn_unpadded",), False, _try_flash),
    "linear": _Own(linear, ("fused_matmul_bias",), False, _try_linear),
    "linear_int8": _Own(linear_int8, ("weight_only_linear", "weight_quantize"), True, _try_int8),
    "quantize_int8": _Own(quantize_int8, ("weight_only_linear", "weight_quantize"), False, _try_int8),
    "rms_norm": _Own(rms_norm, ("fused_rms_norm",)),
    "swiglu": _Own(swiglu, ("swiglu",), True),
    "varlen_attention": _Own(varlen_attention, ("flash_attn_unpadded",), True, _try_flash),
}


_WITH_KERNELS = (
    ("cached_attention", cached_attention, "cached_attention"),
    ("linear_fp8", linear_fp8, "linear_fp8"),
    ("linear_int8", linear_int8, "linear_int8"),
    ("quantize_int8", quantize_int8, "linear_int8"),
)
"""Operations that use one of our kernels beside Paddle's functions, and the operation that the kernel is of."""


def versions(kernels: dict[str, Version]) -> dict[str, Version]:
    """By the operation's name, beside `kernels` in CUDA. Where this Paddle lacks what one needs, the definition, which says why."""
    found = kernels | {name: _version(name, own) for name, own in _OWN.items()}
    for name, run, of in _WITH_KERNELS:
        if kernel := kernels.get(of):
            differentiable = name in _OWN and _OWN[name].differentiable
            found[name] = Version(functools.partial(run, kernel=kernel.run), differentiable, kernel.describe)
    return found


def _version(name: str, own: _Own) -> Version:
    describe = functools.partial(_describe, name)
    if missing(name):
        return Version(getattr(definitions, name), True, describe)
    return Version(own.run, own.differentiable, describe)


def _describe(name: str) -> str:
    reason = refusal(name)
    if not reason:
        return "Paddle's own, on a GPU"
    has_padded = name == "varlen_attention" and not missing(name) and not _padded_refusal()
    some = "pictures in float16 by Paddle's own, the rest " if has_padded else ""
    return f"{some}plain Paddle ({reason})"
