"""Small arrays of NumPy as tensors, as each step of generation needs some."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor

from ..device import to_device
from .dispatch import compiled_library


def to_device_together(arrays: Sequence[np.ndarray]) -> list[Tensor]:
    """`to_device` of some small arrays of float32, int32 and int64; to a GPU by one copy.

    Raises:
        TypeError: an array is of another dtype, where operations are compiled.
    """
    if not paddle.device.get_device().startswith("gpu"):
        library = compiled_library()
        if library is None or library.tensors is None:
            return [to_device(array) for array in arrays]
        return library.tensors(*map(np.ascontiguousarray, arrays))
    order = sorted(range(len(arrays)), key=lambda place: -arrays[place].itemsize)  # so that each lies where it may
    words = [np.ascontiguousarray(arrays[place]).reshape(-1).view(np.int32) for place in order]
    pieces = to_device(np.concatenate(words)).split([each.size for each in words])
    found = dict(zip(order, pieces, strict=True))
    return [found[place].view(str(array.dtype)).reshape(array.shape) for place, array in enumerate(arrays)]
