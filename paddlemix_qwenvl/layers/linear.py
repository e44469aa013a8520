"""Every linear layer, split over the tensor-parallel group.

Weights are held as the Hub holds them, `[out, in]`, so that loading, training, saving and inference share one tensor. Column
layers split `out`, row layers split `in` and add the ranks' results up (Megatron-LM, arXiv:1909.08053, section 3).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import paddle
from paddle import nn

from paddlemix_qwenvl.layers.formats import Block, Dense, Format, quantization, take
from paddlemix_qwenvl.layers.parameter import Piece, whole
from paddlemix_qwenvl.parallel import tensor_parallel


class Linear(nn.Layer):
    """`y = x W^T + b` with the whole weight on each rank.

    Args:
        in_features: size of `x`'s last dimension.
        out_features: size of `y`'s last dimension.
        bias: whether there is a bias.
        file_shape: shape of the weight in a Hub file where it is not `[out, in]` (a convolution over whole patches).
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, file_shape: tuple[int, ...] | None = None
    ):
        super().__init__()
        shape = file_shape or (out_features, in_features)
        rows = slice(0, out_features)
        self._make(
            in_features,
            out_features,
            [Piece(shape, whole(shape), rows, linear=file_shape is None)],
            [Piece((out_features,), (rows,), rows)] if bias else None,
        )

    def _make(self, in_features: int, out_features: int, weight: list[Piece], bias: list[Piece] | None):
        initializer = nn.initializer.Uniform(-1 / math.sqrt(in_features), 1 / math.sqrt(in_features))
        self.weight = self.create_parameter([out_features, in_features], default_initializer=initializer)
        self.weight.pieces = self.pieces = weight
        self.bias = None
        if bias is not None:
            self.bias = self.create_parameter([out_features], is_bias=True)
            self.bias.pieces = bias
        self.format = Dense()

    def hold(self, format: Format, tensors: dict[str, paddle.Tensor | nn.Layer]) -> None:
        """Hold the weight as `tensors` of this `format` from now on. Ends training of this layer."""
        del self.weight
        take(self, tensors)
        self.format = format

    def add_bias(self, values: paddle.Tensor) -> None:
        """Give a layer without a bias one that its checkpoint brings, `[out]`."""
        self.bias = self.create_parameter(values.shape, is_bias=True, dtype=values.dtype)
        self.bias.set_value(values)
        self.bias.pieces = [
            replace(piece, shape=piece.shape[:1], source=piece.source[:1], linear=False) for piece in self.pieces
        ]

    @paddle.no_grad()
    def quantize(self, name: str) -> None:
        """Replace a dense weight by one in the format of this name."""
        format = quantization(name, self.weight.shape[1])
        self.hold(*format.quantized(self.weight, self._largest()))

    def _largest(self):
        """The largest magnitude of each row, where it is not that of this rank's part."""
        return None

    def forward(self, x):
        return self.product(x, self.bias)

    def product(self, x, bias):
        """This rank's `x W^T + bias`."""
        return self.format.product(self, x, bias)


class MergedColumnParallelLinear(Linear):
    """Several Linear layers on one input, as one product; each rank computes its share of each one's outputs.

    Args:
        in_features: size of `x`'s last dimension.
        shares: for each layer, its Hub name (None where the Hub's own tensor is the merged one), its total output size and this
            rank's first and last-plus-one output.
    """

    def __init__(self, in_features: int, shares: list[tuple[str | None, int, int, int]], bias: bool):
        nn.Layer.__init__(self)
        merged = sum(total for name, total, _, _ in shares if name is None)
        self._heights = [stop - start for _, _, start, stop in shares]
        weight, biases, row, before = [], [], 0, 0
        for name, total, start, stop in shares:
            rows = slice(row, row + stop - start)
            source = slice(before + start, before + stop) if name is None else slice(start, stop)
            size = merged if name is None else total
            weight.append(Piece((size, in_features), (source, slice(0, in_features)), rows, name, linear=True))
            biases.append(Piece((size,), (source,), rows, name))
            row, before = rows.stop, before + total
        self._make(in_features, row, weight, biases if bias else None)

    def part(self, x, first: int, last: int, count: int):
        """Of each layer's product, `count` equal parts of its outputs, from `first` to `last`; the weight is dense or int8."""
        ends = itertools.accumulate(self._heights)
        rows = [
            slice(end - height + height * first // count, end - height + height * last // count)
            for end, height in zip(ends, self._heights, strict=True)
        ]

        def of_rows(tensor):
            return None if tensor is None else paddle.concat([tensor[some] for some in rows])

        names = self.format.arrays(self.weight.shape, np.dtype(np.float32))
        part = Block(self.format, {name: of_rows(getattr(self, name)) for name in names})
        return self.format.product(part, x, of_rows(self.bias))


class GatedLinear(MergedColumnParallelLinear):
    """A gate and what it lets through, on one input: `silu(x Wg^T + bg) * (x Wu^T + bu)` (arXiv:2002.05202)."""

    def forward(self, x):
        return self.format.swiglu(self, x, self.bias)


def gate_up_linear(
    in_features: int,
    intermediate_size: int,
    bias: bool,
    names: tuple[str, str] = ("gate_proj", "up_proj"),
    unit: int = 1,
) -> GatedLinear:
    """The gate and up projections of a SwiGLU, Hub `names`, a weight of `[2 * intermediate / ranks]` rows: gate first. Ranks take
    whole `unit`s."""
    start, stop = tensor_parallel().split(intermediate_size, unit)
    shares = [(name, intermediate_size, start, stop) for name in names]
    return GatedLinear(in_features, shares, bias)


class RowParallelLinear(Linear):
    """Each rank holds the columns `start:stop` of the weight and the results are added up; rank 0 adds the bias."""

    def __init__(self, in_features: int, out_features: int, start: int, stop: int, bias: bool):
        nn.Layer.__init__(self)
        self.parallel = tensor_parallel()
        rows = slice(0, out_features)
        self._make(
            stop - start,
            out_features,
            [Piece((out_features, in_features), (rows, slice(start, stop)), rows, linear=True)],
            [Piece((out_features,), (rows,), rows)] if bias else None,
        )

    def forward(self, x):
        bias = self.bias if self.parallel.rank == 0 else None
        return self.parallel.all_reduce(self.product(x, bias))

    def _largest(self):
        """Of whole rows, so that int8 weights that lie row by row are those of one rank; every rank takes part."""
        if self.parallel.degree == 1:
            return None
        return self.parallel.all_reduce(self.weight.astype("float32").abs().max(-1), largest=True)
