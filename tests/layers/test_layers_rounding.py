"""Weights rounded to 4 bits and to float8, against the nearest steps, one number at a time."""

import numpy as np
import paddle
import pytest
import quantised_files as files

from paddlemix_qwenvl.layers import rounding
from paddlemix_qwenvl.layers.formats import Fp8, Int4, Int8, quantization
from paddlemix_qwenvl.layers.linear import Linear

DRAWS = np.random.default_rng(0)
WEIGHT = (DRAWS.standard_normal((6, 96)) * [[1e-3], [1], [50], [0], [1], [1]] + [[0], [0], [0], [0], [9], [-9]]).astype(
    "float32"
)


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_int4_is_the_nearest_step(rows, monkeypatch):
    monkeypatch.setattr(rounding, "_BLOCK", 96 * rows)
    tensors = {name: value.numpy() for name, value in rounding.to_int4(paddle.to_tensor(WEIGHT), 32).items()}
    packed, scale, zeros = tensors["weight"], tensors["scale"][..., None], tensors["zeros"][..., None].astype(int)
    assert packed.shape == (6, 48) and scale.shape == zeros.shape == (6, 3, 1)
    numbers = np.stack([packed & 15, packed >> 4], -1).reshape(6, 3, 32).astype(int)
    wanted = WEIGHT.reshape(6, 3, 32)
    low, high = np.minimum(wanted.min(-1), 0), np.maximum(wanted.max(-1), 0)
    np.testing.assert_allclose(scale[..., 0], (high - low) / 15, rtol=1e-6)
    assert (np.abs((numbers - zeros) * scale - wanted) <= scale * 1.01).all()
    inside = (numbers > 0) & (numbers < 15)
    assert (np.abs((numbers - zeros) * scale - wanted) <= scale * 0.501)[inside].all()


def test_int4_of_a_part_of_the_range():
    """What lies outside becomes the end of the part."""
    kept = DRAWS.uniform(0.4, 1, (6, 3)).astype("float32")
    made = rounding.to_int4(paddle.to_tensor(WEIGHT), 32, paddle.to_tensor(kept))
    low, high = (np.minimum(WEIGHT, 0).reshape(6, 3, 32).min(-1), np.maximum(WEIGHT, 0).reshape(6, 3, 32).max(-1))
    np.testing.assert_allclose(made["scale"].numpy(), (high - low) * kept / 15, rtol=1e-5)
    packed, steps = made["weight"].numpy(), made["scale"].numpy()[..., None]
    numbers = np.stack([packed & 15, packed >> 4], -1).reshape(6, 3, 32).astype(int)
    values = (numbers - made["zeros"].numpy()[..., None]) * steps
    wanted = np.clip(WEIGHT.reshape(6, 3, 32), (low * kept)[..., None], (high * kept)[..., None])
    assert (np.abs(values - wanted) <= steps * 1.01).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_int8_is_the_nearest_step(dtype):
    weight = paddle.to_tensor(WEIGHT).astype(dtype)
    tensors, exact = rounding.to_int8(weight), weight.astype("float32").numpy()
    scale = tensors["scale"].astype("float32").numpy()[:, None]
    assert tensors["scale"].dtype == weight.dtype and tensors["weight"].dtype == paddle.int8
    np.testing.assert_allclose(scale[:, 0], np.abs(exact).max(1) / 127, rtol=2.0**-8 if dtype == "bfloat16" else 1e-6)
    assert (np.abs(tensors["weight"].numpy() * scale - exact) <= scale * 0.501).all()


def test_float8_is_the_nearest_number():
    tensors = {name: value.numpy() for name, value in rounding.to_fp8(paddle.to_tensor(WEIGHT), None).items()}
    scale, values = tensors["scale"], files.float8_values()
    np.testing.assert_allclose(scale, np.abs(WEIGHT).max(1) / 448, rtol=1e-6)
    known = np.where(np.isnan(values), np.inf, values)
    exact = WEIGHT / np.where(scale > 0, scale, 1)[:, None]
    nearest = np.abs(known - exact[..., None]).min(-1)
    np.testing.assert_array_equal(np.abs(values[tensors["weight"]] - exact), nearest)


def test_what_a_weight_becomes():
    assert quantization("int4", 1024 + 64) == Int4(64, has_zeros=True) and quantization("int4", 35) == Int8()
    assert quantization("fp8", 35) == Fp8() and quantization("int8", 64) == Int8()


@pytest.mark.parametrize(("name", "least"), [("int4", 0.99), ("fp8", 0.999)])
def test_a_layer_answers_nearly_the_same(name, least):
    layer, x = Linear(96, 6), paddle.to_tensor(DRAWS.standard_normal((5, 96)).astype("float32"))
    exact = layer(x).numpy().ravel()
    layer.quantize(name)
    found = layer(x).numpy().ravel()
    assert layer.format.name == name and [path for path, _ in layer.named_parameters()] == ["bias"]
    assert least < found @ exact / np.linalg.norm(found) / np.linalg.norm(exact) < 1
