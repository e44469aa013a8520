"""Dtypes of what the operations take and give."""

from __future__ import annotations

import paddle
from paddle import Tensor

from ..dtypes import dtype_name


def activation_dtype(weight_dtype) -> str:
    """The dtype activations take beside weights of `weight_dtype`: float32 on CPU, the weights' own on a GPU."""
    if paddle.get_device() == "cpu":  # the expected place is unknown while a graph is traced
        return "float32"
    return dtype_name(weight_dtype)


def cast(x: Tensor, dtype) -> Tensor:
    """`x` itself if it is of that dtype already."""
    return x if x.dtype == dtype else x.astype(dtype)


def to_float32(x: Tensor) -> Tensor:
    """`x` itself if it is float32 already."""
    return cast(x, paddle.float32)
