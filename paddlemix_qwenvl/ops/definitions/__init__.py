"""Every operation in plain Paddle: what its fast versions are tested against.

A public function in a module of this folder is an operation: nothing else declares it. (No decorator does: Paddle would apply it
again to what it converts for static graphs.) All are differentiable by autograd, run in dynamic mode and in static graphs, and
compute in float32 whatever the dtype of their inputs, because Paddle's CPU build has few bfloat16 kernels. Results come back in
the dtype of the input.
"""

from inspect import isfunction

from .activation import *  # noqa: F403
from .attention import *  # noqa: F403
from .dense import *  # noqa: F403
from .fp8 import *  # noqa: F403
from .int4 import *  # noqa: F403
from .kv_cache import *  # noqa: F403
from .norm import *  # noqa: F403
from .padding import *  # noqa: F403
from .rotary import *  # noqa: F403
from .sampling import *  # noqa: F403

__all__ = [
    name for name, value in globals().items() if isfunction(value) and value.__module__.startswith(f"{__name__}.")
]
