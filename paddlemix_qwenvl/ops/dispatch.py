"""Which version of each operation runs: chosen once, when the operations are imported."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from importlib.util import find_spec

import paddle
from paddle.jit.dy2static import Call

from ..errors import OpsError
from ..threads import use_threads
from . import definitions
from .location import how_to_find_operations
from .version import Version

MODES = ("auto", "compiled", "reference")


def _mode() -> str:
    mode = os.environ.get("QWENVL_OPS", "auto")
    if mode not in MODES:
        raise OpsError(f"QWENVL_OPS is {mode!r}; set it to one of {', '.join(MODES)}, or leave it unset for auto")
    return mode


def _load_compiled():
    """The module of compiled operations and why there is none: (module or None, reason)."""
    mode = _mode()
    if mode == "reference":
        return None, "QWENVL_OPS=reference"
    reason = "paddlemix_qwenvl_ops is not built"
    if find_spec("paddlemix_qwenvl_ops") is not None:
        try:
            from . import compiled

            return compiled, ""
        except (ImportError, OSError, RuntimeError) as error:
            reason = f"paddlemix_qwenvl_ops does not load: {error}"
    if mode == "compiled":
        raise OpsError(f"{reason}; {how_to_find_operations()}")
    return None, reason


_compiled, _reason = _load_compiled()
use_threads()


def compiled_library():
    """The module `paddlemix_qwenvl_ops` where its operations are used, else None."""
    return None if _compiled is None else _compiled.library


def _on_gpus() -> dict[str, Version] | None:
    """The fast versions for tensors on a GPU, None where Paddle has no CUDA or plain Paddle is asked for."""
    if not paddle.is_compiled_with_cuda() or _mode() == "reference":
        return None
    from . import gpu

    return gpu.versions(_compiled.GPU if _compiled is not None and _compiled.HAS_CUDA else {})


CPU: dict[str, Version] = getattr(_compiled, "CPU", {})
GPU: dict[str, Version] | None = _on_gpus()


def _on_gpu(x) -> bool:
    if paddle.in_dynamic_mode():
        return x.place.is_gpu_place()
    # While a graph is traced no tensor has a place, and the expected one is not known.
    return paddle.get_device().startswith("gpu")


def _asks_for_gradient(args, kwargs) -> bool:
    """Whether a gradient is asked for. Static graphs are for inference."""
    if not paddle.is_grad_enabled() or not paddle.in_dynamic_mode():
        return False
    return not all(x.stop_gradient for x in (*args, *kwargs.values()) if isinstance(x, paddle.Tensor))


def _qkv_attention(qkv, cos, sin, cu_seqlens, num_heads, num_kv_heads, causal=False, narrow=False):
    q, k, v = FASTEST["qkv_transpose_split"](qkv, cos, sin, num_heads, num_kv_heads)
    return FASTEST["varlen_attention"](q, k, v, cu_seqlens, cu_seqlens, causal)


def _linear_swiglu(x, weight, bias=None):
    return FASTEST["swiglu"](FASTEST["linear"](x, weight, bias))


def _linear_int8_swiglu(x, weight, bias=None):
    return FASTEST["swiglu"](FASTEST["linear_int8"](x, weight, bias))


def _linear_int4_swiglu(x, weight, bias=None):
    return FASTEST["swiglu"](FASTEST["linear_int4"](x, weight, bias))


# What an operation is made of runs as fast as it can where there is no kernel for the whole: on a GPU, and in training.
_OF_PARTS = {
    "linear_int4_swiglu": _linear_int4_swiglu,
    "linear_int8_swiglu": _linear_int8_swiglu,
    "linear_swiglu": _linear_swiglu,
    "qkv_attention": _qkv_attention,
}


def _converted(run: Callable) -> Callable:
    """`run` for a graph: sizes that are free are tensors only in what Paddle has converted, and by itself it stops before this."""
    if isinstance(run, functools.partial):  # at which it stops, too
        return functools.partial(Call(run.func), *run.args, **run.keywords)
    return Call(run)


def fastest(name: str) -> Callable:
    """The function to call for `name`: the definition, or one that takes the fast version for its tensors' place.

    A version without a gradient is taken where none is asked for.
    """
    definition, cpu, gpu = getattr(definitions, name), CPU.get(name), (GPU or {}).get(name)
    plain = _OF_PARTS.get(name, definition)
    if cpu is None and gpu is None and plain is definition:
        return definition

    @functools.wraps(definition)
    def call(*args, **kwargs):
        version = gpu if GPU is not None and _on_gpu(args[0]) else cpu
        if version is None or not (version.differentiable or not _asks_for_gradient(args, kwargs)):
            run = plain
        else:
            run = version.run
        return (run if paddle.in_dynamic_mode() else _converted(run))(*args, **kwargs)

    return call


FASTEST = {name: fastest(name) for name in definitions.__all__}


def status() -> dict[str, str]:
    """What runs each operation: the instruction set and threads of the compiled ones, or why plain Paddle."""
    on_gpu = GPU is not None and _on_gpu(paddle.zeros([1]))
    versions = GPU if on_gpu else CPU
    plain = f"plain Paddle ({_reason})" if _compiled is None and not on_gpu else "plain Paddle"
    return {name: versions[name].describe() if name in versions else plain for name in definitions.__all__}
