"""The stand-in card is what it says: arithmetic rounds, limits hold, int8 weights lie as Paddle lays them."""

import gpu_stand_in
import numpy as np
import paddle
import pytest
from gpu_stand_in import card
from paddle.nn import quant


def numbers(*shape, dtype="bfloat16", seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x + y,
        lambda x, y: x - y,
        lambda x, y: x * y,
        lambda x, y: x / y,
        lambda x, y: paddle.matmul(x, y, transpose_y=True),
        lambda x, y: paddle.where(x > 0, x, y),
        lambda x, y: paddle.scatter(x, paddle.to_tensor([2]), y[:1]),
        lambda x, y: paddle.nn.functional.gelu(x),
        lambda x, y: x.index_select(paddle.to_tensor([1, 1])),
    ],
)
def test_arithmetic_rounds_once(dtype, function):
    x, y = numbers(4, 8, dtype=dtype), numbers(4, 8, dtype=dtype, seed=1)
    wanted = function(x.astype("float32"), y.astype("float32")).astype(dtype)
    with card((8, 0)):
        found = function(x, y)
    assert found.dtype == wanted.dtype and np.array_equal(found.numpy(), wanted.numpy())


def test_dtypes_that_do_not_go_together_are_refused():
    x, y = numbers(4, 64), numbers(4, 64, dtype="float32")
    with card((8, 0)):
        own = gpu_stand_in.gpu._paddle
        with pytest.raises((RuntimeError, ValueError)):
            paddle.matmul(x, y, transpose_y=True)
        with pytest.raises(AssertionError):
            own.fused_rms_norm(x, y[0], None, 1e-6, 1)
        with pytest.raises(AssertionError):
            own.weight_only_linear(x, paddle.zeros([16, 64], "int8"), None, paddle.ones([16]), "int8")
        with pytest.raises(ValueError, match="no weight-only kernel for 65 inputs"):
            own.weight_quantize(numbers(65, 16), "weight_only_int8")


def test_calls_that_a_version_does_not_know_are_refused():
    """In Paddle 3.0 `begin_norm_axis` has no default."""
    x = numbers(4, 64)
    for version, known in (("3.0.0", False), ("3.1.1", True)):
        with card((8, 0), version):
            own = gpu_stand_in.gpu._paddle
            if known:
                own.fused_rms_norm(x, x[0], None, 1e-6)
            else:
                with pytest.raises(TypeError, match="begin_norm_axis"):
                    own.fused_rms_norm(x, x[0], None, 1e-6)


def test_no_flash_attention_before_ampere():
    q, bounds = numbers(4, 2, 64, dtype="float16"), paddle.to_tensor([0, 4], dtype="int32")
    with card((7, 5)), pytest.raises(RuntimeError, match="Ampere"):
        gpu_stand_in.gpu._paddle.flash_attn_unpadded(q, q, q, bounds, bounds, 4, 4, 0.1)


@pytest.mark.parametrize("arch", [70, 75, 80, 86, 89, 90, 100])
def test_places_are_those_of_paddles_own_kernel(arch):
    weight = numbers(128, 32, dtype="float16")
    values, scale = quant.weight_quantize(weight, "weight_only_int8", arch)
    found = values.numpy().reshape(-1)[gpu_stand_in.places(arch, 32, 128)].reshape(32, 128).view(np.uint8)
    steps = scale.astype("float32").numpy()[:, None]
    assert (np.abs((found.astype(int) - 128) * steps - weight.astype("float32").numpy().T) <= 0.51 * steps).all()
