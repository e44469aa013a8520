"""Tensors to try the operations on, and how near results must be."""

import numpy as np
import paddle

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 3e-3}


def tensor(values, dtype="float32"):
    return paddle.to_tensor(np.asarray(values, np.float32)).astype(dtype)


def int32(values):
    return paddle.to_tensor(np.asarray(values, np.int32))


def float64(x) -> np.ndarray:
    return x.astype("float32").numpy().astype(np.float64)


def close(found, wanted, dtype="float32"):
    """`found` has the dtype and shape wanted, and its numbers are as near as the dtype allows."""
    assert found.dtype == getattr(paddle, dtype)
    assert list(found.shape) == list(wanted.shape)
    np.testing.assert_allclose(float64(found), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def running_totals(lengths):
    return int32(np.concatenate([[0], np.cumsum(lengths)]))
