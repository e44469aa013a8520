"""The two versions of the operations, for tests that run on both.

The compiled ones must be there: where they are not built the tests fail, unless QWENVL_OPS=reference asks for plain Paddle.
"""

import os

from cpu_paths import running_product

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
