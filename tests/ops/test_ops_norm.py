"""Norms and the gated activation against their definitions in float64."""

import numpy as np
import op_definitions
import pytest
from numpy_ops import close, float64, tensor

SHAPES = [(1, 1), (3, 33), (2, 5, 64), (1, 1280), (7, 2049), (0, 16)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
class TestNorms:
    @pytest.fixture(autouse=True)
    def draw(self, shape, dtype):
        draws = np.random.default_rng(0)
        self.x, self.residual = (tensor(draws.normal(1, 3, shape), dtype) for _ in range(2))
        self.weight, self.bias = (tensor(draws.normal(size=shape[-1]), dtype) for _ in range(2))
        self.sum = float64(tensor(float64(self.x) + float64(self.residual), dtype))
        self.dtype = dtype

    def test_rms_norm(self, way):
        wanted = op_definitions.rms_norm(float64(self.x), float64(self.weight), 1e-6)
        close(way.rms_norm(self.x, self.weight, 1e-6), wanted, self.dtype)

    def test_rms_norm_of_a_sum(self, way):
        y, total = way.rms_norm(self.x, self.weight, 1e-5, residual=self.residual)
        close(total, self.sum, self.dtype)
        close(y, op_definitions.rms_norm(self.sum, float64(self.weight), 1e-5), self.dtype)

    def test_layer_norm(self, way):
        wanted = op_definitions.layer_norm(float64(self.x), float64(self.weight), float64(self.bias), 1e-6)
        close(way.layer_norm(self.x, self.weight, self.bias, 1e-6), wanted, self.dtype)

    def test_layer_norm_of_a_sum(self, way):
        y, total = way.layer_norm(self.x, self.weight, self.bias, 1e-5, residual=self.residual)
        close(total, self.sum, self.dtype)
        close(y, op_definitions.layer_norm(self.sum, float64(self.weight), float64(self.bias), 1e-5), self.dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(1, 2), (3, 34), (2, 3, 70), (5, 1024), (0, 8)], ids=str)
def test_swiglu(way, shape, dtype):
    gate_up = tensor(np.random.default_rng(0).normal(0, 4, shape), dtype)
    close(way.swiglu(gate_up), op_definitions.swiglu(float64(gate_up)), dtype)


def test_swiglu_far_out(way):
    gate = np.array([-1e4, -120, -89, -88, 0, 88, 89, 1e4])
    found = float64(way.swiglu(tensor([np.concatenate([gate, np.ones(8)])])))[0]
    np.testing.assert_allclose(found, gate * (gate > 0), atol=1e-6)


def test_large_values_keep_their_norm(way):
    x = tensor(np.random.default_rng(0).normal(1e4, 1, (4, 300)))
    ones, zeros = tensor(np.ones(300)), tensor(np.zeros(300))
    found = float64(way.layer_norm(x, ones, zeros, 1e-6))
    np.testing.assert_allclose(found, op_definitions.layer_norm(float64(x), 1, 0, 1e-6), atol=5e-3)


def test_a_strided_view_is_read_as_it_looks(way):
    x = tensor(np.random.default_rng(0).normal(size=(8, 6))).transpose([1, 0])[::2]
    close(way.rms_norm(x, tensor(np.ones(8)), 1e-6), op_definitions.rms_norm(float64(x), 1, 1e-6))
