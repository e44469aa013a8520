"""What every block does between its two widths."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import paddle
from paddle import nn

from paddlemix_qwenvl.layers.linear import RowParallelLinear, gate_up_linear
from paddlemix_qwenvl.parallel import tensor_parallel

ROWS_AT_ONCE, ROWS_AT_ONCE_ON_GPU = 512, 4096  # enough for products at full speed


class SwiGLU(nn.Layer):
    """Gated linear unit with SiLU (arXiv:2002.05202), split over the ranks by `unit`s of its inner width."""

    def __init__(self, width: int, inner: int, bias: bool, unit: int = 1):
        super().__init__()
        start, stop = tensor_parallel().split(inner, unit)
        self.gate_up_proj = gate_up_linear(width, inner, bias=bias, unit=unit)
        self.down_proj = RowParallelLinear(inner, width, start, stop, bias=bias)

    def forward(self, x):
        return feed_forward(x, self.gate_up_proj, self.down_proj)


def feed_forward(x, up: Callable, down: nn.Layer):
    """`down(up(x))` of packed rows `[T, width]`; `up` ends with the activation.

    Where nothing is to be differentiated, ROWS_AT_ONCE rows at a time, on a GPU ROWS_AT_ONCE_ON_GPU: the inner width of a long
    prompt or of a large picture would otherwise be most of what a model needs beside its weights.
    """

    def mlp(rows):
        return down(up(rows))

    if not paddle.in_dynamic_mode():  # a graph's rows are not known
        return mlp(x)
    trains = paddle.is_grad_enabled() and not x.stop_gradient
    parts = -(-x.shape[0] // (ROWS_AT_ONCE if x.place.is_cpu_place() else ROWS_AT_ONCE_ON_GPU))
    if parts <= 1 or trains:
        return mlp(x)
    bounds = [x.shape[0] * i // parts for i in range(parts + 1)]
    y = paddle.empty_like(x)  # not a list of parts, which would be there twice while they are joined
    for first, last in pairwise(bounds):
        y[first:last] = mlp(x[first:last])
    return y
