"""Products with int4 weights."""

import numpy as np
import paddle
import pytest
from cpu_paths import product_error
from numpy_ops import close, float64, int32, tensor
from ways import close_gated

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.ops.int4 import Int4Weight, int4_group_size

SIZES = [
    (32, 32, 5),
    (96, 32, 1),
    (128, 64, 9),
    (288, 96, 7),
    (640, 128, 19),
    (768, 256, 5),
    (1056, 96, 25),
    (1088, 64, 290),
    (1152, 384, 6),
    (1184, 1184, 6),
    (1536, 768, 13),
    (2048, 2048, 9),
    (4480, 128, 150),
]
"""Inputs, inputs of a group, outputs."""
ROWS = [0, 1, 2, 3, 4, 5, 8, 9, 17, 33, 70, 270]


def draw(shape, dtype="float32", seed=0):
    return tensor(np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[-1]), dtype)


def int4(inputs, group_size, outputs, zeros=False, order=False, dtype="float16"):
    """Such a weight, and its numbers in float64."""
    draws = np.random.default_rng(inputs)
    steps, groups = draws.integers(0, 16, (outputs, inputs)), inputs // group_size
    scale = tensor(draws.uniform(0.5, 1.5, (outputs, groups)) / np.sqrt(inputs), dtype)
    zero = draws.integers(0, 16, (outputs, groups)) if zeros else np.full((outputs, groups), 8)
    wanted = (steps - zero.repeat(group_size, 1)) * float64(scale).repeat(group_size, 1)
    places = draws.permutation(inputs)
    weight = Int4Weight(
        paddle.to_tensor((steps[:, ::2] + 16 * steps[:, 1::2]).astype(np.uint8)),
        scale,
        paddle.to_tensor(zero.astype(np.uint8)) if zeros else None,
        int32(places) if order else None,
    )
    assert weight.group_size == group_size
    return weight, wanted[:, np.argsort(places)] if order else wanted


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dequantize_int4(dtype):
    weight, wanted = int4(96, 32, 3, zeros=True, order=True, dtype=dtype)
    np.testing.assert_array_equal(float64(ops.dequantize_int4(weight, "float32")), wanted.astype(np.float32))
    close(ops.dequantize_int4(weight, dtype), wanted, dtype)


@pytest.mark.parametrize(
    "zeros, order, dtype", [(False, False, "float16"), (True, False, "bfloat16"), (True, True, "float32")]
)
@pytest.mark.parametrize("inputs, group_size, outputs", SIZES)
def test_linear_int4(way, inputs, group_size, outputs, zeros, order, dtype):
    weight, exact = int4(inputs, group_size, outputs, zeros, order, dtype)
    bias = draw((outputs,), seed=1)
    for rows in ROWS:
        x = draw((rows, inputs), seed=2)
        for found, added in ((way.linear_int4(x, weight), 0.0), (way.linear_int4(x, weight, bias), float64(bias))):
            assert found.dtype == paddle.float32 and found.shape == [rows, outputs]
            bound = product_error(way.product("int4", rows), "int4", float64(x), exact)
            assert (np.abs(float64(found) - (float64(x) @ exact.T + added)) <= bound + 1e-6).all()


@pytest.mark.parametrize("zeros, order", [(False, False), (True, True)])
@pytest.mark.parametrize("inputs, group_size, outputs", [(32, 32, 2), (288, 96, 50), (640, 128, 614), (4480, 128, 18)])
def test_linear_int4_swiglu(way, inputs, group_size, outputs, zeros, order):
    weight, exact = int4(inputs, group_size, outputs, zeros, order)
    bias = draw((outputs,), seed=1)
    for rows in (0, 1, 7, 33, 70, 270):
        x = draw((rows, inputs), seed=2)
        for added in (None, bias):
            found = way.linear_int4_swiglu(x, weight, added)
            close_gated(way, "int4", found, x, exact, 0.0 if added is None else float64(added))


@pytest.mark.parametrize("number", [np.inf, np.nan])
def test_a_row_that_is_not_finite_gives_none(way, number):
    weight, _ = int4(640, 128, 5, zeros=True)
    for rows in (2, 9, 40, 270):
        x = np.random.default_rng(3).normal(size=(rows, 640))
        x[1, 600] = number
        found = float64(way.linear_int4(tensor(x), weight))
        assert not np.isfinite(found[1]).any() and np.isfinite(np.delete(found, 1, 0)).all()


def test_group_sizes():
    assert int4_group_size(256, 128) == 128 and int4_group_size(96, -1) == 96
    for inputs, size in ((256, 48), (256, 96), (100, -1), (256, 0), (256, -2), (256, 512)):
        with pytest.raises(
            ConfigurationError, match=f"int4 groups of .* in a weight of {inputs} inputs; .*multiple of 32"
        ):
            int4_group_size(inputs, size)
