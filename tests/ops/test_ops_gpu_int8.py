"""Products with int8 weights on a GPU, through the stand-in card: Paddle's own kernels, ours in CUDA, and the plain way."""

import numpy as np
import paddle
import pytest
from emulated_kernels import Kernels
from gpu_stand_in import FACTS, card
from numpy_ops import TOLERANCE, float64
from recorder import Recorder, draw

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.dtypes import dtype_name
from paddlemix_qwenvl.ops import definitions, dispatch, gpu
from paddlemix_qwenvl.ops.int8 import Int8Weight

VERSIONS = sorted(FACTS)


def int8_error(x, weight, largest=None) -> np.ndarray:
    """Bound of what int8 and the dtype's rounding may change in `x W^T`."""
    step = (np.abs(float64(weight)).max(1) if largest is None else largest) / 127
    rounding = TOLERANCE[dtype_name(weight.dtype)] * np.abs(float64(x)) @ np.abs(float64(weight)).T
    return np.abs(float64(x)).sum(-1, keepdims=True) * step * 0.51 + rounding / 4 + 1e-6


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("capability", [(7, 0), (8, 0), (9, 0)])
@pytest.mark.parametrize("inputs, filled", [(64, 64), (192, 192), (100, 128), (7, 64)])
@pytest.mark.parametrize("rows, with_bias", [(1, True), (5, False)])
def test_linear_int8(version, capability, inputs, filled, rows, with_bias):
    dtype = "float16" if capability == (7, 0) else "bfloat16"
    weight, x = draw((32, inputs), dtype), draw((rows, inputs), dtype, 1)
    bias = draw(32, dtype, 2) if with_bias else None
    with card(capability, version) as patch:
        assert ops.status()["linear_int8"] == "Paddle's own, on a GPU"
        quantizer, product = Recorder(patch, "weight_quantize"), Recorder(patch, "weight_only_linear")
        quantized = ops.quantize_int8(weight)
        y = ops.linear_int8(x, quantized, bias)
    assert quantized.arranged and quantized.values.shape == [32, filled] and quantized.scale.dtype == weight.dtype
    wanted = float64(x) @ float64(weight).T + (0 if bias is None else float64(bias))
    assert y.dtype == x.dtype and (np.abs(float64(y) - wanted) <= int8_error(x, weight)).all()
    assert quantizer.replay(2) == [[32, filled], [32]]
    product.refuses_only_the_device()


@pytest.mark.parametrize("capability", [(8, 0), (9, 0), (12, 0)])
@pytest.mark.parametrize("inputs, kernel", [(64, "linear_int8"), (96, "linear_int8"), (100, None)])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_linear_int8_of_bfloat16_keeps_its_steps_exact(capability, inputs, kernel, rows):
    """By our kernel in CUDA: no step is rounded, so that errors of a row do not all have one sign."""
    weight, x = draw((32, inputs)), paddle.ones([rows, inputs], "bfloat16")
    kernels = Kernels()
    with card(capability) as patch:
        patch.setattr(dispatch, "GPU", gpu.versions(kernels.versions))
        quantized = dispatch.fastest("quantize_int8")(weight.abs())  # so that errors would add up
        y = dispatch.fastest("linear_int8")(x, quantized)
    assert not quantized.arranged and quantized.scale.dtype == paddle.float32
    assert set(kernels.calls) == ({"dequantize_int8" if rows > 32 else kernel} if kernel else set())
    exact = float64(x) @ (float64(quantized.values) * float64(quantized.scale)[:, None]).T
    assert y.dtype == x.dtype and (np.abs(float64(y) / exact - 1) < 2**-8).all()
    np.testing.assert_allclose(float64(quantized.scale), np.abs(float64(weight)).max(1) / 127, rtol=2e-7)


def test_int8_of_float16_stays_with_paddle_beside_our_kernel():
    weight, x, kernels = draw((32, 64), "float16"), draw((3, 64), "float16", 1), Kernels()
    with card((8, 0)) as patch:
        patch.setattr(dispatch, "GPU", gpu.versions(kernels.versions))
        quantized = dispatch.fastest("quantize_int8")(weight)
        y = dispatch.fastest("linear_int8")(x, quantized)
    assert quantized.arranged and not kernels.calls
    assert (np.abs(float64(y) - float64(x) @ float64(weight).T) <= int8_error(x, weight)).all()


def test_a_gradient_through_int8_beside_our_kernel():
    weight, x, kernels = draw((32, 64)), draw((3, 64), seed=1), Kernels()
    x.stop_gradient = False
    with card((8, 0)) as patch:
        patch.setattr(dispatch, "GPU", gpu.versions(kernels.versions))
        y = dispatch.fastest("linear_int8")(x, dispatch.fastest("quantize_int8")(weight))
    assert not y.stop_gradient and not kernels.calls


def test_an_arranged_weight_is_no_row_by_row_one():
    """What tells them apart is kept with them: sizes and dtypes may be the same."""
    weight, x = draw((32, 64)), draw((3, 64), seed=1)
    with card((8, 0)):
        arranged = ops.quantize_int8(weight)
        by_rows = Int8Weight(*definitions.quantize_int8(weight))
        for quantized in (arranged, by_rows, by_rows._replace(scale=by_rows.scale.astype("bfloat16"))):
            y = float64(ops.linear_int8(x, quantized))
            assert (np.abs(y - float64(x) @ float64(weight).T) <= int8_error(x, weight)).all()


@pytest.mark.parametrize("dtype, outputs", [("float32", 32), ("bfloat16", 20)])
def test_int8_weights_that_have_no_kernel(dtype, outputs):
    weight, x = draw((outputs, 64), dtype), draw((3, 64), dtype, 1)
    with card((8, 0)):
        quantized = ops.quantize_int8(weight)
        y = ops.linear_int8(x, quantized)
    assert not quantized.arranged and quantized.values.shape == [outputs, 64]
    assert (np.abs(float64(y) - float64(x) @ float64(weight).T) <= int8_error(x, weight)).all()


@pytest.mark.parametrize(
    "capability, version, known",
    [((12, 0), "3.3.1", "92/100"), ((10, 0), "3.2.2", "90/92"), ((8, 7), "3.3.1", "92/100")],
)
def test_int8_on_a_card_that_paddle_does_not_list(capability, version, known):
    weight, x = draw((32, 64)), draw((3, 64), seed=1)
    with card(capability, version):
        quantized = ops.quantize_int8(weight)
        y, status = ops.linear_int8(x, quantized), ops.status()
    assert not quantized.arranged
    assert (np.abs(float64(y) - float64(x) @ float64(weight).T) <= int8_error(x, weight)).all()
    for name in ("quantize_int8", "linear_int8"):
        assert status[name].startswith("plain Paddle (Currently weight_quantize only support SM70/")
        assert status[name].endswith("{}. but got {}{})".format(known, *capability))


def test_arranged_int8_beside_float32_sums():
    weight, x = draw((32, 64), "float16") * 0.01, draw((3, 64), "float32", 1)
    x[0, 0] = 1e6  # which is float16's largest then
    with card((7, 0)):
        y = ops.linear_int8(x, ops.quantize_int8(weight))
    assert y.dtype == paddle.float32 and np.isfinite(y.numpy()).all()
    assert (np.abs(float64(y) - float64(x) @ float64(weight).T)[1:] <= int8_error(x, weight)[1:]).all()


@pytest.mark.parametrize("capability", [(7, 0), (12, 0)])
def test_int8_in_float16_sums_what_is_scaled(capability):
    """Sums of unscaled values would end at 65 504; 20 outputs have no kernel."""
    weight, x = paddle.full([20, 512], 0.01, "float16"), paddle.full([1, 512], 20.0, "float16")
    with card(capability):
        y = ops.linear_int8(x, ops.quantize_int8(weight))
    np.testing.assert_allclose(float64(y), 102.4, rtol=2e-3)


def test_int8_where_a_gradient_is_asked_for():
    """An arranged weight has no other way to go, and Paddle's has a gradient; only `x` gets one."""
    weight, x = draw((32, 64)), draw((3, 64), seed=1)
    with card((8, 0)):
        quantized = ops.quantize_int8(weight)
        wanted = ops.linear_int8(x, quantized)
        x.stop_gradient = False
        y = ops.linear_int8(x, quantized)
    assert np.array_equal(float64(y), float64(wanted)) and not y.stop_gradient
