"""How a Linear layer holds its weight: what its tensors mean, and which operation multiplies by them.

A format is a small value; the tensors are the layer's own, under the names that the format gives them, so that they are saved,
moved and traced as those of any layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import paddle
from paddle import Tensor, nn

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.layers.rounding import to_fp8, to_int4
from paddlemix_qwenvl.ops.fp8 import Fp8Weight
from paddlemix_qwenvl.ops.int4 import Int4Weight
from paddlemix_qwenvl.ops.int8 import Int8Weight

_GROUP_SIZES = (128, 64, 32)  # the first choice first
Arrays = dict[str, tuple[tuple[int, ...], np.dtype]]


class Format(Protocol):
    """What a layer asks of the way its weight is held. Formats inherit it.

    Attributes:
        name: as `--quantization` has it; None for a weight in one of the dtypes.
        has_rows: whether an embedding can read its rows.
    """

    name: str | None
    has_rows: bool

    def product(self, layer: nn.Layer, x: Tensor, bias: Tensor | None) -> Tensor:
        """`x W^T + bias`, `[..., out]` in the dtype of `x`."""

    def swiglu(self, layer: nn.Layer, x: Tensor, bias: Tensor | None) -> Tensor:
        """`ops.swiglu` of the product, `[..., out / 2]`."""
        return ops.swiglu(self.product(layer, x, bias))

    def rows(self, layer: nn.Layer, ids: Tensor, dtype: str) -> Tensor:
        """Rows `ids` of the weight, `[..., in]` in `dtype`."""

    def arrays(self, shape: tuple[int, int], number: np.dtype) -> Arrays:
        """Names, shapes and NumPy's dtypes of the tensors of a weight `[out, in]`.

        Args:
            number: of the numbers that are no integers, where a format does not say it itself.
        """


def size(format: Format, shape: tuple[int, int], width: int) -> int:
    """Bytes of a weight `[out, in]` in a model whose numbers take `width` bytes."""
    arrays = format.arrays(shape, np.dtype(f"V{width}"))
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in arrays.values())


@dataclass(frozen=True)
class Dense(Format):
    """A weight in one of the dtypes: the parameter `weight` `[out, in]`."""

    name: ClassVar = None
    has_rows: ClassVar = True

    def product(self, layer, x, bias):
        return ops.linear(x, layer.weight, bias)

    def swiglu(self, layer, x, bias):
        return ops.linear_swiglu(x, layer.weight, bias)

    def rows(self, layer, ids, dtype):
        return ops.embedding(ids, layer.weight)

    def arrays(self, shape, number):
        return {"weight": (shape, number)}


@dataclass(frozen=True)
class Int8(Format):
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

    def swiglu(self, layer, x, bias):
        return ops.linear_int8_swiglu(x, self._weight(layer), bias)

    def rows(self, layer, ids, dtype):
        return ops.embedding_int8(ids, self._weight(layer), dtype)

    def arrays(self, shape, number):
        return {"weight": (shape, np.int8), "scale": (shape[:1], np.float32)}

    def _weight(self, layer) -> Int8Weight:
        return Int8Weight(layer.weight, layer.scale, self.arranged)


@dataclass(frozen=True)
class Int4(Format):
    """4 bits a number: `weight` uint8 `[out, in / 2]`, `scale` `[out, in / group_size]`, `zeros` of the same shape or none, and
    `order` `[in]` or none, as in `ops.int4.Int4Weight`.
    """

    group_size: int
    has_zeros: bool = False
    has_order: bool = False
    name: ClassVar = "int4"
    has_rows: ClassVar = False

    def quantized(self, weight: Tensor, largest: Tensor | None) -> tuple[Int4, dict[str, Tensor]]:
        """As in `Int8`; groups go by their own magnitudes."""
        return self, to_int4(weight, self.group_size)

    def product(self, layer, x, bias):
        return ops.linear_int4(x, self._weight(layer), bias)

    def swiglu(self, layer, x, bias):
        return ops.linear_int4_swiglu(x, self._weight(layer), bias)

    def arrays(self, shape, number):
        groups = shape[0], shape[1] // self.group_size
        found = {"weight": ((shape[0], shape[1] // 2), np.uint8), "scale": (groups, number)}
        found |= {"zeros": (groups, np.uint8)} if self.has_zeros else {}
        return found | ({"order": (shape[1:], np.int32)} if self.has_order else {})

    def _weight(self, layer) -> Int4Weight:
        zeros = layer.zeros if self.has_zeros else None
        return Int4Weight(layer.weight, layer.scale, zeros, layer.order if self.has_order else None)


@dataclass(frozen=True)
class Fp8(Format):
    """float8 numbers: `weight` uint8 `[out, in]`, their bits, and `scale` `[out]`, what 1 of each row is worth."""

    name: ClassVar = "fp8"
    has_rows: ClassVar = False

    def quantized(self, weight: Tensor, largest: Tensor | None) -> tuple[Fp8, dict[str, Tensor]]:
        """As in `Int8`."""
        return self, to_fp8(weight, largest)

    def product(self, layer, x, bias):
        return ops.linear_fp8(x, Fp8Weight(layer.weight, layer.scale), bias)

    def arrays(self, shape, number):
        return {"weight": (shape, np.uint8), "scale": (shape[:1], number)}


def quantization(name: str, width: int) -> Int8 | Int4 | Fp8:
    """What a dense weight of `width` inputs becomes, by the `name` of a format; int8 where no groups of int4 fit."""
    sizes = [size for size in _GROUP_SIZES if width % size == 0]
    if name == Int4.name and sizes:
        return Int4(sizes[0], has_zeros=True)
    return Fp8() if name == Fp8.name else Int8()


@dataclass(frozen=True)
class Apart(Format):
    """Blocks of `heights` outputs, one under another, that no single format can hold: the layer's `blocks`, each with its own."""

    formats: tuple[Format, ...]
    heights: tuple[int, ...]
    has_rows: ClassVar = False

    @property
    def name(self) -> str:
        """Of the first that has one."""
        return next(format.name for format in self.formats if format.name)

    @classmethod
    def of(cls, held: list[tuple[Format, int, dict[str, Tensor]]]) -> tuple[Apart, dict[str, nn.Layer]]:
        """The format that holds blocks of these formats, heights and tensors, and what a layer is to have for it."""
        formats, heights, tensors = zip(*held, strict=True)
        blocks = nn.LayerList([Block(*each) for each in zip(formats, tensors, strict=True)])
        return cls(formats, heights), {"blocks": blocks}

    def product(self, layer, x, bias):
        y = paddle.concat([block.format.product(block, x, None) for block in layer.blocks], axis=-1)
        return y if bias is None else y + bias.astype(y.dtype)

    def arrays(self, shape, number):
        blocks = enumerate(zip(self.formats, self.heights, strict=True))
        return {
            f"blocks.{index}.{name}": kind
            for index, (format, height) in blocks
            for name, kind in format.arrays((height, shape[1]), number).items()
        }


@dataclass(frozen=True)
class Beside(Format):
    """Groups of inputs, one beside another, with steps of their own: the layer's `blocks`, each `Int8`, and `order` `[in]`, which
    number of the input each column takes, or none.
    """

    groups: int
    has_order: bool = False
    name: ClassVar = "int8"
    has_rows: ClassVar = False

    def held(self, tensors: dict[str, Tensor]) -> dict[str, Tensor | nn.Layer]:
        """What a layer is to have for the tensors of `arrays`, and others beside them."""
        names = [f"blocks.{group}." for group in range(self.groups)]
        blocks = [Block(Int8(), {name: tensors[start + name] for name in ("weight", "scale")}) for start in names]
        others = {name: tensor for name, tensor in tensors.items() if not name.startswith("blocks.")}
        return {"blocks": nn.LayerList(blocks), **others}

    def product(self, layer, x, bias):
        if self.has_order:
            x = x.index_select(layer.order, axis=-1)
        parts = x.split(self.groups, axis=-1)
        y = layer.blocks[0].format.product(layer.blocks[0], parts[0], bias)
        for group in range(1, self.groups):
            y = y + layer.blocks[group].format.product(layer.blocks[group], parts[group], None)
        return y

    def arrays(self, shape, number):
        part = shape[0], shape[1] // self.groups
        blocks = [(f"blocks.{group}", Int8().arrays(part, number)) for group in range(self.groups)]
        found = {f"{start}.{name}": kind for start, arrays in blocks for name, kind in arrays.items()}
        return found | ({"order": (shape[1:], np.int32)} if self.has_order else {})


@dataclass(frozen=True)
class Gathered:
    """Columns in groups that a rank has parts of, filled up with zeros: the tensors of the format `inner` with `width` columns, and
    `inputs` int32 `[width]`, which number of the input each column takes.
    """

    inner: Int4 | Beside
    width: int
    has_rows: ClassVar = False

    @property
    def name(self) -> str:
        """Of the inner one."""
        return self.inner.name

    def product(self, layer, x, bias):
        return self.inner.product(layer, x.index_select(layer.inputs, axis=-1), bias)

    def arrays(self, shape, number):
        return {**self.inner.arrays((shape[0], self.width), number), "inputs": ((self.width,), np.dtype(np.int32))}


class Block(nn.Layer):
    """The tensors of one of the formats of `Apart` or `Beside`."""

    def __init__(self, format: Format, tensors: dict[str, Tensor | nn.Layer]):
        super().__init__()
        self.format = format
        take(self, tensors)


def take(layer: nn.Layer, tensors: dict[str, Tensor | nn.Layer]) -> None:
    """Let a layer have tensors, and layers that hold some, by their names."""
    for name, held in tensors.items():
        if isinstance(held, nn.Layer):
            layer.add_sublayer(name, held)
        else:
            layer.register_buffer(name, held)
