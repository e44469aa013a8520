"""The two versions of the operations, for tests that run on both.

The compiled ones must be there: where they are not built the tests fail, unless QWENVL_OPS=reference asks for plain Paddle.
"""

import os

import numpy as np
import paddle
from cpu_paths import product_error, running_product
from numpy_ops import float64

from paddlemix_qwenvl.ops import definitions, dispatch

PLAIN_ONLY = os.environ.get("QWENVL_OPS") == "reference"


class Way:
    """The operations of one way: `way.rms_norm(...)`."""

    def __init__(self, name: str):
        self.name = name

    def product(self, dtype: str, rows: int) -> str:
        """How a product of `rows` rows with weights of `dtype` is computed: see `paddlemix_qwenvl_ops.product`."""
        return "float32" if self.name == "plain" else running_product(dtype, rows)

    def __getattr__(self, operation: str):
        definition = getattr(definitions, operation)
        if self.name == "plain" or operation not in dispatch.CPU:
            return definition
        return dispatch.CPU[operation].run


def close_gated(way, dtype, found, x, weight, bias):
    """`found`, as near to the `swiglu` of a product as the rounding that the way declares for these rows allows.

    The slope of silu is 1.1 at most, and the errors of both halves meet the other half.
    """
    x = float64(x)
    assert found.dtype == paddle.float32 and found.shape == [len(x), len(weight) // 2]
    gate, up = np.split(x @ weight.T + bias, 2, axis=-1)
    of_gate, of_up = np.split(product_error(way.product(dtype, len(x)), dtype, x, weight), 2, axis=-1)
    bound = 1.1 * of_gate * (np.abs(up) + of_up) + np.abs(gate) * of_up + 1e-5
    assert (np.abs(float64(found) - gate / (1 + np.exp(-gate)) * up) <= bound).all()
