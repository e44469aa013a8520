"""The CUDA layer norm against its definition in float64."""

import numpy as np
import pytest
from machine import INVALID_VALUE
from near import close
from op_definitions import layer_norm

DTYPES = ["float32", "float16", "bfloat16"]


def arrays(machine, rows, size, dtype, offset=0.0):
    draws = np.random.default_rng(rows * size)
    shapes = [(rows, size), (rows, size), (size,), (size,)]
    return [machine.put(draws.normal(offset, 1, shape), dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows, size", [(3, 64), (1, 1280), (2, 6000), (1, 16384), (1, 9001), (5, 77), (4, 1), (0, 16)])
def test_layer_norm(machine, rows, size, dtype):
    x, _, weight, bias = arrays(machine, rows, size, dtype)
    y = machine.empty((rows, size), dtype)
    machine.run("layer_norm", x, None, weight, bias, dtype, 1e-5, rows, size, None, y)
    close(y, layer_norm(x.read(), weight.read(), bias.read(), 1e-5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows, size", [(3, 128), (2, 1664), (2, 6000), (3, 33)])
def test_layer_norm_of_a_sum(machine, rows, size, dtype):
    x, residual, weight, bias = arrays(machine, rows, size, dtype)
    total, y = (machine.empty((rows, size), dtype) for _ in range(2))
    machine.run("layer_norm", x, residual, weight, bias, dtype, 1e-5, rows, size, total, y)
    close(total, x.read() + residual.read())
    close(y, layer_norm(total.read(), weight.read(), bias.read(), 1e-5))


def test_a_mean_far_from_zero(machine):
    x, _, weight, bias = arrays(machine, 2, 2048, "float32", offset=1000.0)
    y = machine.empty((2, 2048))
    machine.run("layer_norm", x, None, weight, bias, "float32", 1e-5, 2, 2048, None, y)
    np.testing.assert_allclose(y.read(), layer_norm(x.read(), weight.read(), bias.read(), 1e-5), atol=1e-1, rtol=1e-4)


def test_no_columns(machine):
    x = machine.put(np.zeros((2, 0)))
    assert machine.status("layer_norm", x, None, x, x, "float32", 1e-5, 2, 0, None, x) == INVALID_VALUE
