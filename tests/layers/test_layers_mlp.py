"""What lies between a block's two widths, in parts."""

import numpy as np
import paddle
import pytest
from gpu_stand_in import card
from paddle import nn

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.layers.linear import RowParallelLinear, gate_up_linear
from paddlemix_qwenvl.layers.mlp import ROWS_AT_ONCE, ROWS_AT_ONCE_ON_GPU, feed_forward


@pytest.fixture
def layers():
    paddle.seed(0)
    return gate_up_linear(8, 12, bias=True), RowParallelLinear(12, 8, 0, 12, bias=True)


class Spy(nn.Layer):
    """Remembers how many rows each call brought."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.rows = layer, []

    def forward(self, x):
        self.rows.append(x.shape[0])
        return self.layer(x)


@pytest.mark.parametrize("rows, parts", [(0, 1), (1, 1), (ROWS_AT_ONCE, 1), (ROWS_AT_ONCE + 1, 2), (1300, 3)])
def test_rows_go_in_parts(layers, rows, parts):
    up, down = layers
    x = paddle.randn([rows, 8])
    with paddle.no_grad():
        wanted = down(ops.swiglu(up.product(x, up.bias)))
        spy = Spy(up)
        found = feed_forward(x, spy, down)
    assert sum(spy.rows) == rows and len(spy.rows) == parts and max(spy.rows) <= ROWS_AT_ONCE
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-6)


@pytest.mark.parametrize("rows, parts", [(ROWS_AT_ONCE_ON_GPU, 1), (2 * ROWS_AT_ONCE_ON_GPU + 1, 3)])
def test_rows_go_in_larger_parts_on_a_gpu(layers, rows, parts):
    up, down = layers
    x = paddle.randn([rows, 8])
    with paddle.no_grad(), card((8, 0)):
        spy = Spy(up)
        found = feed_forward(x, spy, down).numpy()
    assert sum(spy.rows) == rows and len(spy.rows) == parts and max(spy.rows) <= ROWS_AT_ONCE_ON_GPU
    with paddle.no_grad():
        np.testing.assert_allclose(found, down(up(x)).numpy(), atol=1e-6)


def test_training_keeps_them_together(layers):
    up, down = layers
    spy, x = Spy(up), paddle.randn([2500, 8])
    x.stop_gradient = False
    feed_forward(x, spy, down).sum().backward()
    assert spy.rows == [2500] and x.grad is not None and up.weight.grad is not None
