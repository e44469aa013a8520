"""Small arrays as tensors."""

import numpy as np
import pytest
from gpu_counts import counting
from gpu_stand_in import card

from paddlemix_qwenvl.ops.arrays import to_device_together
from paddlemix_qwenvl.ops.dispatch import compiled_library

SMALL = [
    np.array([2**31 + 5, -7], np.int64),
    np.array([[1.5], [-2.5]], np.float32),
    np.array([], np.int32),
    np.arange(6, dtype=np.int64).reshape(2, 3),
    np.arange(6, dtype=np.int32).reshape(2, 3).T,
    np.array([1, 2, 3], np.int32),
]


def check(tensors: list, arrays: list) -> None:
    for tensor, array in zip(tensors, arrays, strict=True):
        assert (str(tensor.numpy().dtype), tensor.shape) == (str(array.dtype), [*array.shape])
        assert np.array_equal(tensor.numpy(), array) and tensor.stop_gradient


def test_small_arrays_go_to_a_gpu_by_one_copy():
    with card((8, 0)), counting() as counts:
        tensors = to_device_together(SMALL)
        assert counts.log == ["blocking upload"]
    check(tensors, SMALL)


def test_small_arrays_as_tensors_of_the_cpu():
    arrays = [array.copy() for array in SMALL]
    tensors = to_device_together(arrays)
    for array in arrays:
        array[...] = 0  # the numbers are the tensor's own
    check(tensors, SMALL)
    assert to_device_together([]) == []


def test_small_arrays_of_another_dtype(monkeypatch):
    if compiled_library() is not None:
        with pytest.raises(TypeError, match="float32, int32 or int64"):
            to_device_together([np.zeros(2, np.int16)])
        monkeypatch.setattr(compiled_library(), "tensors", None)  # as where it was built without Python's headers
    check(to_device_together(SMALL), SMALL)
