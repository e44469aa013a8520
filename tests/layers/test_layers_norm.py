"""RMSNorm against its formula."""

import numpy as np
import paddle
import pytest

from paddlemix_qwenvl.layers.norm import RMSNorm


@pytest.mark.parametrize("epsilon", [1e-6, 1e-1])
@pytest.mark.parametrize("size", [4, 33, 1280])
def test_formula(epsilon, size):
    draws = np.random.default_rng(size)
    x, residual, weight = (draws.standard_normal(shape).astype(np.float32) for shape in ((5, size), (5, size), size))
    x[0] = 0
    residual[0] = 0
    layer = RMSNorm(size, epsilon)
    layer.weight.set_value(weight)

    def norm(value):
        value = value.astype(np.float64)
        return value / np.sqrt((value**2).mean(-1, keepdims=True) + epsilon) * weight

    np.testing.assert_allclose(layer(paddle.to_tensor(x)).numpy(), norm(x), atol=1e-5)
    y, total = layer(paddle.to_tensor(x), paddle.to_tensor(residual))
    np.testing.assert_allclose(total.numpy(), x + residual, atol=1e-6)
    np.testing.assert_allclose(y.numpy(), norm(x + residual), atol=1e-5)


def test_a_fresh_norm_scales_by_one():
    assert (RMSNorm(3, 1e-6).weight.numpy() == 1).all()
