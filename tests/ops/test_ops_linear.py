"""Products with weights as the Hub holds them."""

import numpy as np
import paddle
import pytest
from cpu_paths import product_error
from numpy_ops import close, float64, tensor
from ways import PLAIN_ONLY, Way, close_gated

from paddlemix_qwenvl import ops

SHAPES = [(1, 1), (33, 5), (80, 50), (300, 97), (1184, 3), (4500, 17)]  # inputs, outputs
ROWS = [0, 1, 2, 3, 5, 8, 9, 24, 25, 33, 70]


def draw(shape, dtype="float32", seed=0):
    return tensor(np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[-1]), dtype)


def close_product(way, dtype, found, x, weight, bias=0.0):
    """As near as the rounding that the way declares for these rows allows; `weight` as `dtype` holds it."""
    x = float64(x)
    assert found.dtype == paddle.float32 and found.shape == [len(x), len(weight)]
    bound = product_error(way.product(dtype, len(x)), dtype, x, weight)
    assert (np.abs(float64(found) - (x @ weight.T + bias)) <= bound + 1e-6).all()


@pytest.mark.parametrize("inputs, outputs", SHAPES)
def test_linear(way, inputs, outputs):
    weight, bias = draw((outputs, inputs)), draw((outputs,), seed=1)
    for rows in ROWS:
        x = draw((rows, inputs), seed=2)
        wanted = float64(x) @ float64(weight).T
        close(way.linear(x, weight), wanted)
        close(way.linear(x, weight, bias), wanted + float64(bias))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("inputs, outputs", SHAPES)
def test_linear_narrow(way, inputs, outputs, dtype):
    weight, bias = draw((outputs, inputs), dtype), draw((outputs,), dtype, 1)
    for rows in ROWS:
        x = draw((rows, inputs), seed=2)
        if rows <= 1:
            assert way.product(dtype, rows) == "float32"
        close_product(way, dtype, way.linear(x, weight), x, float64(weight))
        close_product(way, dtype, way.linear(x, weight, bias), x, float64(weight), float64(bias))


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_row_does_not_depend_on_those_beside_it(way, dtype):
    x, weight = draw((90, 1184), seed=2), draw((97, 1184))
    weights = way.quantize_int8(weight) if dtype == "int8" else weight.astype(dtype)
    product = way.linear_int8 if dtype == "int8" else way.linear
    assert way.product(dtype, 90) == way.product(dtype, 33)
    sums = product_error("float32", dtype, float64(x[20:53]), float64(weight))  # their order may differ
    assert (np.abs(float64(product(x, weights)[20:53]) - float64(product(x[20:53], weights))) <= sums).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_products_are_nearer_than_bfloat16(way, dtype):
    """Of x, that is, with outliers of a hundred times the rest, or as near; the error is taken of the whole product."""
    weight, x = draw((64, 1000), dtype), draw((40, 1000), seed=2).numpy()
    x[:, ::97] *= 100
    wanted = float64(tensor(x)) @ float64(weight).T
    found, rounded = way.linear(tensor(x), weight), float64(tensor(x, "bfloat16")) @ float64(weight).T
    share = 1.001 if way.product(dtype, 40) == "bfloat16" else 0.5
    assert np.linalg.norm(float64(found) - wanted) < share * np.linalg.norm(rounded - wanted)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
@pytest.mark.parametrize("rows", [8, 20, 40])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_what_is_not_a_number_stays_so(way, dtype, rows, bad):
    """In its own row, and nowhere else; numbers too small to round are zeros."""
    x = draw((rows, 300), seed=2).numpy()
    x[3, 140], x[5], x[7] = bad, 0, 1e-38
    weight = draw((6, 300))
    int8 = dtype == "int8"
    found = (
        way.linear_int8(tensor(x), way.quantize_int8(weight)) if int8 else way.linear(tensor(x), weight.astype(dtype))
    )
    finite = np.isfinite(float64(found))
    assert not finite[3].any() and finite[np.arange(rows) != 3].all()
    assert np.abs(float64(found)[[5, 7]]).max() < 1e-30


@pytest.mark.parametrize("inputs, outputs", SHAPES)
def test_linear_int8(way, inputs, outputs):
    weight, bias = draw((outputs, inputs)), draw((outputs,), seed=1)
    quantized = way.quantize_int8(weight)
    exact = quantized.values.numpy() * float64(quantized.scale)[:, None]
    for rows in ROWS:
        x = draw((rows, inputs), seed=2)
        close_product(way, "int8", way.linear_int8(x, quantized), x, exact)
        close_product(way, "int8", way.linear_int8(x, quantized, bias), x, exact, float64(bias))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
@pytest.mark.parametrize("inputs, outputs", [(1, 2), (80, 50), (300, 614), (4500, 18)])
def test_linear_swiglu(way, inputs, outputs, dtype):
    """Whole strips of weight rows and parts of one; of many rows and few."""
    weight, bias = draw((outputs, inputs)), draw((outputs,), seed=1)
    if dtype == "int8":
        held = way.quantize_int8(weight)
        exact, run = held.values.numpy() * float64(held.scale)[:, None], way.linear_int8_swiglu
    else:
        held = weight.astype(dtype)
        exact, run = float64(held), way.linear_swiglu
    for rows in (0, 1, 7, 33, 70):
        x = draw((rows, inputs), seed=2)
        close_gated(way, dtype, run(x, held), x, exact, 0.0)
        close_gated(way, dtype, run(x, held, bias), x, exact, float64(bias))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_quantize_int8(way, dtype):
    weight = draw((40, 133), dtype)
    weight[7] = 0
    quantized, scale, _ = way.quantize_int8(weight)
    assert quantized.dtype == paddle.int8 and scale.dtype == paddle.float32
    np.testing.assert_allclose(float64(scale), np.abs(float64(weight)).max(1) / 127, rtol=1e-6)
    found = quantized.numpy() * float64(scale)[:, None]
    assert (np.abs(found - float64(weight)) <= 0.501 * float64(scale)[:, None]).all()
    assert np.abs(quantized.numpy()).max(1).tolist() == [127] * 7 + [0] + [127] * 32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parts_of_an_int8_weight_by_the_largest_of_whole_rows(way, dtype):
    weight = draw((6, 50), dtype)
    whole, largest = way.quantize_int8(weight), weight.astype("float32").abs().max(-1)
    parts = [way.quantize_int8(part, largest) for part in (weight[:, :20].contiguous(), weight[:, 20:].contiguous())]
    np.testing.assert_array_equal(np.concatenate([part.values.numpy() for part in parts], 1), whole.values.numpy())
    assert all(np.array_equal(part.scale.numpy(), whole.scale.numpy()) for part in parts)


def test_leading_axes_are_kept(way):
    x, weight = draw((2, 3, 40)), draw((7, 40))
    close(way.linear(x, weight), float64(x) @ float64(weight).T)


@pytest.mark.parametrize("inputs", [1, 8, 37, 100])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_embedding(way, dtype, inputs):
    weight, ids = draw((11, inputs), dtype), paddle.to_tensor([[3, 10], [0, 3]])
    for rows in ids, ids.astype("int32"), ids[0, :1], ids[:0]:
        found = way.embedding(rows, weight)
        assert found.dtype == paddle.float32 and found.shape == [*rows.shape, inputs]
        assert np.array_equal(float64(found), float64(weight)[rows.numpy()])


@pytest.mark.parametrize("inputs", [1, 8, 37, 100])
def test_embedding_int8(way, inputs):
    """Rows of what the head of a tied model holds."""
    weight, ids = draw((11, inputs)), paddle.to_tensor([[3, 10], [0, 3]])
    quantized, scale, _ = weights = ops.quantize_int8(weight)
    found = way.embedding_int8(ids, weights, "float32")
    np.testing.assert_allclose(float64(found), (float64(quantized) * float64(scale)[:, None])[ids.numpy()], rtol=1e-6)
    assert np.abs(float64(found) - float64(weight)[ids.numpy()]).max() <= scale.numpy().max() / 2 * 1.001


if not PLAIN_ONLY:

    def test_bfloat16_activations():
        """Which Paddle's own CPU build has no product for."""
        x, weight = draw((5, 64), "bfloat16"), draw((9, 64), "bfloat16")
        close(Way("compiled").linear(x, weight), float64(x) @ float64(weight).T, "bfloat16")
