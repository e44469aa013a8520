"""What weights and KV caches can be made of."""

from typing import Any

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a number."""
DTYPES = (*BYTES,)
QUANTIZATIONS = ("int8", "int4", "fp8")
"""What the weights of linear layers can be made of beside these."""
SAFETENSORS_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Their names in a safetensors file."""


def dtype_name(dtype: Any) -> str:
    """ "bfloat16" for that, for "torch.bfloat16", and for Paddle's or PyTorch's own object of this name."""
    return str(dtype).rpartition(".")[2]
