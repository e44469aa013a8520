"""How a Linear layer holds its weight: what its tensors mean, and which operation multiplies by them.

A format is a small value; the tensors are the layer's own, under the names that the format gives them, so that they are saved,
moved and traced as those of any layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

from paddle import Tensor, nn

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.ops.int8 import Int8Weight


class Format(Protocol):
    """What a layer asks of the way its weight is held.

    Attributes:
        name: as `--quantization` has it; None for a weight in one of the dtypes.
        has_rows: whether an embedding can read its rows.
    """

    name: str | None
    has_rows: bool

    def product(self, layer: nn.Layer, x: Tensor, bias: Tensor | None) -> Tensor:
        """`x W^T + bias`, `[..., out]` in the dtype of `x`."""

    def rows(self, layer: nn.Layer, ids: Tensor, dtype: str) -> Tensor:
        """Rows `ids` of the weight, `[..., in]` in `dtype`."""

    def size(self, shape: tuple[int, int], width: int) -> int:
        """Bytes of a weight `[out, in]` in a model whose numbers take `width` bytes."""


@dataclass(frozen=True)
class Dense:
    """A weight in one of the dtypes: the parameter `weight` `[out, in]`."""

    name: ClassVar = None
    has_rows: ClassVar = True

    def product(self, layer, x, bias):
        return ops.linear(x, layer.weight, bias)

    def rows(self, layer, ids, dtype):
        return ops.embedding(ids, layer.weight)

    def size(self, shape, width):
        return math.prod(shape) * width


@dataclass(frozen=True)
class Int8:
    """int8 values `weight` `[out, in]` with a step an output channel, `scale` `[out]`.

    Attributes:
        arranged: as in `ops.int8.Int8Weight`.
    """

    arranged: bool = False
    name: ClassVar = "int8"

    @classmethod
    def quantized(cls, weight: Tensor, largest: Tensor | None) -> tuple[Int8, dict[str, Tensor]]:
        """The format that `ops.quantize_int8` makes of a dense weight, and its tensors; arguments as there."""
        made = ops.quantize_int8(weight, largest)
        return cls(made.arranged), {"weight": made.values, "scale": made.scale}

    @property
    def has_rows(self) -> bool:
        """An embedding cannot read what is arranged for a GPU's kernel."""
        return not self.arranged

    def product(self, layer, x, bias):
        return ops.linear_int8(x, self._weight(layer), bias)

    def rows(self, layer, ids, dtype):
        return ops.embedding_int8(ids, self._weight(layer), dtype)

    def size(self, shape, width):
        return math.prod(shape) + 4 * shape[0]

    def _weight(self, layer) -> Int8Weight:
        return Int8Weight(layer.weight, layer.scale, self.arranged)
