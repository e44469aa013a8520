"""Paddle's own fused GPU operations behind the signatures of the plain ones: every call of them is in this file.

What they have no kernel for (a dtype, a size) goes the plain way, and so does what this Paddle or this card has not: `refusal` says
why. Paddle's functions are asked rather than its versions: each is tried once on the card.
"""

from __future__ import annotations

import functools
import importlib
import math
from types import SimpleNamespace

import paddle
from paddle import Tensor

from . import reference_attention, reference_linear
from .int8 import Int8Weight

__all__ = ["linear_int8", "quantize_int8", "rms_norm", "swiglu", "varlen_attention"]

DIFFERENTIABLE = frozenset({"linear_int8", "swiglu", "varlen_attention"})
FUNCTIONS = {
    "flash_attn_unpadded": ("paddle.nn.functional.flash_attention",),
    "fused_rms_norm": ("paddle.incubate.nn.functional",),
    "swiglu": ("paddle.nn.functional", "paddle.incubate.nn.functional"),  # since 3.3, and before
    "weight_only_linear": ("paddle.nn.quant",),
    "weight_quantize": ("paddle.nn.quant",),
}
"""Paddle's functions, and the modules that have had them; tests/ops/paddle_signatures.json holds what each version has."""

_NEEDS = {
    "linear_int8": ("weight_only_linear", "weight_quantize"),
    "quantize_int8": ("weight_only_linear", "weight_quantize"),
    "rms_norm": ("fused_rms_norm",),
    "swiglu": ("swiglu",),
    "varlen_attention": ("flash_attn_unpadded",),
}
_HALVES = (paddle.float16, paddle.bfloat16)
_FLASH_CAPABILITY = (8, 0)  # Ampere
_FLASH_LARGEST_HEAD = 256
_INT8_OUTPUTS, _INT8_INPUTS = 16, 64  # what the sizes of an arranged weight are multiples of


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
    names = [name for name in _NEEDS[operation] if getattr(_paddle, name) is None]
    return f"Paddle {paddle.__version__} has no {names[0]}" if names else ""


def refusal(operation: str) -> str:
    """Why an operation goes the plain way on the current card, whatever it is given; empty where it need not."""
    return missing(operation) or _tried(_TRIALS.get(operation), paddle.get_device())


@functools.cache
def _tried(trial, device: str) -> str:
    """What is wrong with a `trial`, which gives what Paddle's function makes of some numbers, and what it should."""
    if trial is None:
        return ""
    try:
        with paddle.no_grad():
            found, wanted = (y.astype("float32") for y in trial())
            error = float((found - wanted).abs().max() / wanted.abs().max())
    except (AssertionError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        return str(error).strip().split("\n")[0]
    return "" if error < 0.05 else f"Paddle's results are {error:.0%} off on this card"


def _numbers(*shape: int) -> Tensor:
    """Some float16 ones."""
    return paddle.arange(math.prod(shape), dtype="float32").sin().reshape(shape).astype("float16")


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, residual: Tensor | None = None):
    weight = weight.astype(x.dtype)
    y, total = _paddle.fused_rms_norm(x, weight, None, epsilon, x.ndim - 1, residual=residual)[:2]
    return y if residual is None else (y, total)


def swiglu(gate_up: Tensor) -> Tensor:
    return _paddle.swiglu(gate_up)


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
    fits = q.dtype in _HALVES and q.shape[-1] % 8 == 0 and q.shape[-1] <= _FLASH_LARGEST_HEAD
    if not fits or not paddle.in_dynamic_mode() or refusal("varlen_attention"):
        return reference_attention.varlen_attention(q, k, v, cu_seqlens_q, cu_seqlens_k, causal, scale)
    return _flash(q, k, v, cu_seqlens_q, cu_seqlens_k, causal, scale)


def _flash(q, k, v, cu_seqlens_q, cu_seqlens_k, causal: bool, scale: float) -> Tensor:
    longest_q, longest_k = _longest(cu_seqlens_q), _longest(cu_seqlens_k)
    return _paddle.flash_attn_unpadded(
        q, k, v, cu_seqlens_q, cu_seqlens_k, longest_q, longest_k, scale, causal=causal, training=not q.stop_gradient
    )[0]


def _longest(cu_seqlens: Tensor) -> int:
    """Tokens of the longest segment, remembered with the tensor: asking the device again in each layer would wait for it."""
    longest = getattr(cu_seqlens, "longest", None)
    if longest is None:
        longest = cu_seqlens.longest = int((cu_seqlens[1:] - cu_seqlens[:-1]).max())
    return longest


def _try_flash() -> tuple[Tensor, Tensor]:
    capability = paddle.device.cuda.get_device_capability()
    if capability < _FLASH_CAPABILITY:
        raise NotImplementedError("flash attention needs compute capability 8.0, this is {}.{}".format(*capability))
    q, bounds = _numbers(5, 2, 64), paddle.to_tensor([0, 5], dtype="int32")
    arguments = q, q, q, bounds, bounds, True, 0.125
    return _flash(*arguments), reference_attention.varlen_attention(*arguments)


def quantize_int8(weight: Tensor, largest: Tensor | None = None) -> Int8Weight:
    """Arranged for this card where Paddle has a kernel; each rank then goes by its own `largest`, whose steps are no wider."""
    fits = weight.dtype in _HALVES and weight.shape[0] % _INT8_OUTPUTS == 0
    if not fits or refusal("quantize_int8"):
        return reference_linear.quantize_int8(weight, largest)
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


def linear_int8(x: Tensor, weight: Int8Weight, bias: Tensor | None = None) -> Tensor:
    if not weight.arranged:
        return reference_linear.linear_int8(x, weight, bias)
    bias = None if bias is None else bias.astype(x.dtype)
    x = _filled(x, weight.values.shape[1])
    return _paddle.weight_only_linear(x, weight.values, bias, weight.scale, "int8")


def _try_int8() -> tuple[Tensor, Tensor]:
    weight, x = _numbers(16, 64), _numbers(6, 64)
    arranged = _arranged(weight)
    parts = x[:1], x[1:]  # few rows have a kernel of their own
    return paddle.concat([linear_int8(part, arranged) for part in parts]), reference_linear.linear(x, weight)


_TRIALS = {"linear_int8": _try_int8, "quantize_int8": _try_int8, "varlen_attention": _try_flash}
