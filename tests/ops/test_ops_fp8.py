"""Products with float8 weights."""

import numpy as np
import paddle
import pytest
from cpu_paths import product_error
from numpy_ops import close, float64, tensor

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.ops.fp8 import Fp8Weight

BITS = np.arange(256).astype(np.uint8)


def e4m3(bits) -> np.ndarray:
    """arXiv:2209.05433, table 1, in float64."""
    sign, exponent, fraction = 1 - 2.0 * (bits >> 7), (bits >> 3 & 15).astype(float), (bits & 7).astype(float)
    value = np.where(exponent == 0, fraction * 2.0**-9, (1 + fraction / 8) * 2.0 ** (exponent - 7))
    return sign * np.where((bits & 127) == 127, np.nan, value)


def fp8(outputs, inputs, scales, dtype="float32", block=(128, 128)):
    """A weight with a scale of the shape `scales`, and its numbers in float64."""
    draws = np.random.default_rng(inputs)
    bits = draws.choice(BITS[(BITS & 127) != 127], (outputs, inputs))
    scale = tensor(draws.uniform(0.5, 1.5, scales) / 448 / np.sqrt(inputs), dtype)
    spread = float64(scale)
    if spread.ndim == 1:
        spread = spread[:, None]
    else:
        spread = spread.repeat(block[0], 0).repeat(block[1], 1)[:outputs, :inputs]
    return Fp8Weight(paddle.to_tensor(bits), scale, block), e4m3(bits) * spread


def test_every_number():
    weight = Fp8Weight(paddle.to_tensor(BITS.reshape(2, 128)), tensor([1.0]))
    for dtype in ("float32", "bfloat16", "float16"):  # which hold them all
        np.testing.assert_array_equal(float64(ops.dequantize_fp8(weight, dtype)), e4m3(BITS).reshape(2, 128))


@pytest.mark.parametrize("scales, block", [((1,), (128, 128)), ((5,), (128, 128)), ((2, 3), (4, 16))])
def test_dequantize_fp8(scales, block):
    weight, wanted = fp8(5, 40, scales, "bfloat16", block)
    close(ops.dequantize_fp8(weight, "float32"), wanted)


@pytest.mark.parametrize("inputs, outputs", [(1, 1), (33, 5), (80, 50), (300, 97), (1184, 3)])
@pytest.mark.parametrize("blocks", ["one", "rows", "matrix"])
def test_linear_fp8(way, inputs, outputs, blocks):
    block = (32, 16)
    scales = {"one": (1,), "rows": (outputs,), "matrix": (-(-outputs // block[0]), -(-inputs // block[1]))}[blocks]
    weight, exact = fp8(outputs, inputs, scales, "float16", block)
    bias = tensor(np.random.default_rng(1).normal(size=outputs))
    assert way.product("fp8", 1) == "float32"
    for rows in (0, 1, 2, 3, 5, 8, 9, 16, 33, 70):
        x = tensor(np.random.default_rng(2).normal(size=(rows, inputs)))
        for found, added in ((way.linear_fp8(x, weight), 0.0), (way.linear_fp8(x, weight, bias), float64(bias))):
            assert found.dtype == paddle.float32 and found.shape == [rows, outputs]
            bound = product_error(way.product("fp8", rows), "fp8", float64(x), exact)
            assert (np.abs(float64(found) - (float64(x) @ exact.T + added)) <= bound + 1e-6).all()


@pytest.mark.parametrize("bits", [0x7F, 0xFF])
def test_what_is_no_number_stays_none(way, bits):
    values = np.zeros((3, 50), np.uint8)
    values[1, 41] = bits
    weight = Fp8Weight(paddle.to_tensor(values), tensor([1.0]))
    for rows in (1, 2, 9, 40):
        found = float64(way.linear_fp8(tensor(np.ones((rows, 50))), weight))
        np.testing.assert_array_equal(found, np.tile([0, np.nan, 0], (rows, 1)))
