"""One Python function per operation: compiled where it is built, plain Paddle elsewhere.

`definitions` says what each operation is, in plain Paddle; `compiled` and `gpu` register faster versions of it by name. Those with
a gradient of their own run in training too, the others where no gradient is asked for. The environment variable QWENVL_OPS forces
a way: `reference` is plain Paddle, `compiled` is an OpsError where the compiled ones are missing.

T counts packed tokens, H query heads, Hkv key and value heads, D is the head size. Activations on CPU are float32;
weights and KV cache may be narrower.
"""

from .cast import activation_dtype
from .definitions import *  # noqa: F403
from .dispatch import FASTEST, status

globals().update(FASTEST)  # each definition gives its name to the function that takes the fastest version

__all__ = ["activation_dtype", "status", *FASTEST]
