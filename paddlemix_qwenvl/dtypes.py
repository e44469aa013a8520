"""What weights and KV caches can be made of."""

from typing import Any

DTYPES = ("float32", "float16", "bfloat16")


def dtype_name(dtype: Any) -> str:
    """ "bfloat16" for that, for "torch.bfloat16", and for Paddle's or PyTorch's own object of this name."""
    return str(dtype).rpartition(".")[2]
