"""Which version of each operation runs: chosen once, when the operations are imported."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import paddle
from paddle.jit.dy2static import Call

from ..environment import how_to_find_operations
from ..errors import OpsError
from ..threads import use_threads
from . import reference, reference_attention, reference_cached, reference_linear

MODES = ("auto", "compiled", "reference")
PLAIN = {
    name: getattr(module, name)
    for module in (reference, reference_attention, reference_cached, reference_linear)
    for name in module.__all__
}


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


def _load_gpu():
    """The module of Paddle's own GPU operations, None where Paddle has no CUDA or plain Paddle is asked for."""
    if not paddle.is_compiled_with_cuda() or _mode() == "reference":
        return None
    from . import gpu

    return gpu


_gpu = _load_gpu()


class _Way(NamedTuple):
    """A fast version of an operation."""

    run: Callable
    differentiable: bool
    label: str


def _way(module, name: str, label: str) -> _Way | None:
    run = getattr(module, name, None)
    return run and _Way(run, name in getattr(module, "DIFFERENTIABLE", ()), label)


def _ways(name: str) -> tuple[_Way | None, _Way | None]:
    """The fast versions for tensors on the CPU and on a GPU."""
    on_gpu = _way(_gpu, name, "Paddle's own")
    if on_gpu is not None and _gpu.missing(name):
        on_gpu = None
    if on_gpu is None and _gpu is not None and name in getattr(_compiled, "ON_GPU", ()):
        on_gpu = _Way(getattr(_compiled, name), False, "compiled for CUDA")
    return _way(_compiled, name, "compiled"), on_gpu


def _on_gpu(x) -> bool:
    if paddle.in_dynamic_mode():
        return x.place.is_gpu_place()
    # While a graph is traced no tensor has a place, and the expected one is not known.
    return paddle.get_device().startswith("gpu")


def _open(way: _Way, args) -> bool:
    """Whether a fast version may be taken: where no gradient is asked for that it has not. Static graphs are for inference."""
    if way.differentiable or not paddle.in_dynamic_mode() or not paddle.is_grad_enabled():
        return True
    return all(x.stop_gradient for x in args if isinstance(x, paddle.Tensor))


def operation(name: str):
    """The function to call for `name`: the plain one, or one that takes the fast version for its tensors' place."""
    plain, (cpu, gpu) = PLAIN[name], _ways(name)
    if cpu is None and gpu is None:
        return plain

    @functools.wraps(plain)
    def fastest(*args, **kwargs):
        way = gpu if _gpu is not None and _on_gpu(args[0]) else cpu
        run = plain if way is None or not _open(way, (*args, *kwargs.values())) else way.run
        if not paddle.in_dynamic_mode():
            # Sizes that are free are tensors only in what Paddle has converted, and by itself it stops at this function.
            run = Call(run)
        return run(*args, **kwargs)

    return fastest


def status() -> dict[str, str]:
    """What runs each operation: the instruction set and threads of the compiled ones, or why plain Paddle."""
    if _gpu is not None and _on_gpu(paddle.zeros([1])):
        return {name: _gpu_status(name) for name in PLAIN}
    if _compiled is None:
        return dict.fromkeys(PLAIN, f"plain Paddle ({_reason})")
    import paddlemix_qwenvl_ops as library

    compiled = f"compiled for {library.isa()}, {library.threads()} threads"
    products = (
        f"compiled for {library.path()}, {library.threads()} threads, prompts in {library.product('bfloat16', 512)}"
    )
    products = dict.fromkeys(("linear", "linear_int8"), products)
    return dict.fromkeys(PLAIN, "plain Paddle") | dict.fromkeys(_compiled.__all__, compiled) | products


def _gpu_status(name: str) -> str:
    refusal = _gpu.refusal(name) if name in _gpu.__all__ else ""
    if refusal:
        return f"plain Paddle ({refusal})"
    way = _ways(name)[1]
    return "plain Paddle" if way is None else f"{way.label}, on a GPU"
