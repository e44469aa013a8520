"""What a test sees of Paddle's own GPU operations: `Recorder` gives the arguments of a call to the operator of the installed
Paddle, which infers shapes and dtypes without a kernel."""

import numpy as np
import paddle
import pytest
from numpy_ops import tensor

from paddlemix_qwenvl.dtypes import dtype_name
from paddlemix_qwenvl.ops import gpu


def draw(shape, dtype="bfloat16", seed=0):
    return tensor(np.random.default_rng(seed).normal(size=shape), dtype)


class Recorder:
    """Notes the arguments of one of Paddle's functions."""

    def __init__(self, patch, name):
        self.function, self.name, self.calls = getattr(gpu._paddle, name), name, []
        patch.setattr(gpu._paddle, name, self)

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        return self.function(*args, **kwargs)

    def replay(self, count: int = 1) -> list[list[int]]:
        """Shapes of the first outputs that the operator itself infers from the last arguments; a static graph runs no kernel."""
        args, kwargs = self.calls[-1]
        paddle.enable_static()
        try:
            with paddle.static.program_guard(paddle.static.Program()):
                graph = [_placeholder(i, x) for i, x in enumerate(args)]
                outputs = gpu.find(self.name)(*graph, **{name: _placeholder(name, x) for name, x in kwargs.items()})
                outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
                return [list(y.shape) for y in outputs[:count]]
        finally:
            paddle.disable_static()

    def refuses_only_the_device(self):
        """The operator takes the arguments and then misses a kernel for the CPU."""
        with pytest.raises(TypeError, match=r"Check data type error for op: \w+, input: \w+, .* expected_dtype: *\("):
            self.replay()


def _placeholder(name, x):
    if not isinstance(x, paddle.Tensor):
        return x
    return paddle.static.data(f"input_{name}", x.shape, dtype_name(x.dtype))
