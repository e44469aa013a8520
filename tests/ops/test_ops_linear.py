"""Products with weights as the Hub holds them."""

import numpy as np
import paddle
import pytest
from numpy_ops import TOLERANCE, close, float64, tensor
from ways import PLAIN_ONLY, Way

from paddlemix_qwenvl import ops

SHAPES = [(1, 1), (33, 5), (80, 50), (300, 97), (1184, 3), (4500, 17)]  # inputs, outputs
ROWS = [0, 1, 2, 3, 5, 8, 9, 16, 33, 70]


def draw(shape, dtype="float32", seed=0):
    return tensor(np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[-1]), dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("inputs, outputs", SHAPES)
def test_linear(way, inputs, outputs, dtype):
    weight, bias = draw((outputs, inputs), dtype), draw((outputs,), dtype, 1)
    for rows in ROWS:
        x = draw((rows, inputs), seed=2)
        wanted = float64(x) @ float64(weight).T
        close(way.linear(x, weight), wanted)
        close(way.linear(x, weight, bias), wanted + float64(bias))


@pytest.mark.parametrize("inputs, outputs", SHAPES)
def test_linear_int8(way, inputs, outputs):
    weight, bias = draw((outputs, inputs)), draw((outputs,), seed=1)
    quantized, scale = way.quantize_int8(weight)
    for rows in ROWS:
        x = draw((rows, inputs), seed=2)
        wanted = float64(x) @ (quantized.numpy() * float64(scale)[:, None]).T
        close(way.linear_int8(x, quantized, scale), wanted)
        close(way.linear_int8(x, quantized, scale, bias), wanted + float64(bias))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_quantize_int8(way, dtype):
    weight = draw((40, 133), dtype)
    weight[7] = 0
    quantized, scale = way.quantize_int8(weight)
    assert quantized.dtype == paddle.int8 and scale.dtype == paddle.float32
    np.testing.assert_allclose(float64(scale), np.abs(float64(weight)).max(1) / 127, rtol=1e-6)
    found = quantized.numpy() * float64(scale)[:, None]
    assert (np.abs(found - float64(weight)) <= 0.501 * float64(scale)[:, None]).all()
    assert np.abs(quantized.numpy()).max(1).tolist() == [127] * 7 + [0] + [127] * 32


def test_leading_axes_are_kept(way):
    x, weight = draw((2, 3, 40)), draw((7, 40), "bfloat16")
    close(way.linear(x, weight), float64(x) @ float64(weight).T)


def test_embedding():
    weight, ids = draw((11, 8), "bfloat16"), paddle.to_tensor([[3, 10], [0, 3]])
    found = ops.embedding(ids, weight)
    assert found.dtype == paddle.float32
    np.testing.assert_allclose(float64(found), float64(weight)[ids.numpy()], atol=TOLERANCE["float32"])


def test_embedding_int8():
    """Rows of what the head of a tied model holds."""
    weight, ids = draw((11, 8)), paddle.to_tensor([[3, 10], [0, 3]])
    quantized, scale = ops.quantize_int8(weight)
    found = ops.embedding_int8(ids, quantized, scale, "float32")
    np.testing.assert_allclose(float64(found), (float64(quantized) * float64(scale)[:, None])[ids.numpy()], rtol=1e-6)
    assert np.abs(float64(found) - float64(weight)[ids.numpy()]).max() <= scale.numpy().max() / 2 * 1.001


if not PLAIN_ONLY:

    def test_bfloat16_activations():
        """Which Paddle's own CPU build has no product for."""
        x, weight = draw((5, 64), "bfloat16"), draw((9, 64), "bfloat16")
        close(Way("compiled").linear(x, weight), float64(x) @ float64(weight).T, "bfloat16")
