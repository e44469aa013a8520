"""Which version of each operation runs: chosen once, when the operations are imported."""

from __future__ import annotations

import functools
import os
from importlib.util import find_spec

import paddle

from ..errors import OpsError
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
        raise OpsError(
            f"{reason}; run `python setup.py install` in external_ops, or put its build folder on PYTHONPATH"
        )
    return None, reason


_compiled, _reason = _load_compiled()


_MANY_PLACES = paddle.is_compiled_with_cuda()


def _open(args, differentiable: bool) -> bool:
    """Whether the compiled way may be taken: on the CPU, and where no gradient is asked for that it does not have."""
    if not paddle.in_dynamic_mode():
        return True
    learning = paddle.is_grad_enabled() and any(isinstance(x, paddle.Tensor) and not x.stop_gradient for x in args)
    if learning and not differentiable:
        return False
    return not _MANY_PLACES or args[0].place.is_cpu_place()


def operation(name: str):
    """The function to call for `name`: the plain one, or one that takes the compiled way where that is open."""
    plain, fast = PLAIN[name], getattr(_compiled, name, None)
    if fast is None:
        return plain
    differentiable = name in _compiled.DIFFERENTIABLE

    @functools.wraps(plain)
    def either(*args, **kwargs):
        return (fast if _open((*args, *kwargs.values()), differentiable) else plain)(*args, **kwargs)

    return either


def status() -> dict[str, str]:
    """What runs each operation: the instruction set and threads of the compiled ones, or why plain Paddle."""
    if _compiled is None:
        return dict.fromkeys(PLAIN, f"plain Paddle ({_reason})")
    import paddlemix_qwenvl_ops as library

    compiled = f"compiled for {library.isa()}, {library.threads()} threads"
    products = dict.fromkeys(("linear", "linear_int8"), f"{compiled}, prompts in {library.bfloat16_products()}")
    return dict.fromkeys(PLAIN, "plain Paddle") | dict.fromkeys(_compiled.__all__, compiled) | products
