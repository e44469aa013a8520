"""How other tools lay a quantised Linear weight out in files, and how it is read into the formats of `layers/formats.py`.

Every number keeps the value that its file gives it: numbers of 4 bits are moved, never rounded again. Sources: AutoAWQ
(`awq/utils/packing_utils.py`), AutoGPTQ (`qlinear_cuda.py`) and GPTQModel for the zeros of version 2, compressed-tensors
(`compressors/pack_quantized`, `naive_quantized`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.layers.parameter import whole
from paddlemix_qwenvl.weights.casts import cast, numpy_dtype
from paddlemix_qwenvl.weights.checkpoint import Checkpoint
from paddlemix_qwenvl.weights.files import NUMPY
from paddlemix_qwenvl.weights.order import Order

Arrays = dict[str, np.ndarray]
HEAD = "lm_head"
# What compressed-tensors writes of activations, which are not quantised here: that is nearer to the model that was.
ACTIVATIONS = ("input_scale", "input_zero_point", "output_scale", "output_zero_point")


class Layout(Protocol):
    """How a tool lays a weight `[out, in]` out.

    Attributes:
        held: name of the format that holds it, as in `layers/formats.py`, where it is not in groups; None for a weight that is not
            quantised.
        known: tensors beside it that may be there, and mean nothing to the weight's values or are read where they are.
        as_held: the format's tensors whose bytes may lie in a file as the format has them -> what they are called there.
    """

    held: str | None
    known: tuple[str, ...]
    as_held: Mapping[str, str]

    def tensors(self, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """Names, after the module's, and shapes of what there must be."""

    def misfit(self, shape: tuple[int, int]) -> str:
        """Why a weight `[out, in]` cannot be laid so; empty where it can."""

    def can_take(self, columns: slice, width: int) -> bool:
        """Whether a rank can hold these of `width` columns."""

    def order(self, file: WeightFile) -> Order | None:
        """How columns of one group come to lie together; None where they do."""

    def number(self, file: WeightFile) -> np.dtype:
        """What the numbers are kept in that are no integers."""

    def read(self, file: WeightFile, rows: slice, order: Order | None) -> Arrays:
        """Some rows, under the names that the format gives its tensors."""


@dataclass(frozen=True)
class WeightFile:
    """A weight in a checkpoint, as far as a rank needs it.

    Attributes:
        shape: `[out, in]` of the whole.
        columns: of this rank.
    """

    checkpoint: Checkpoint
    module: str
    layout: Layout
    shape: tuple[int, int]
    columns: slice

    def has(self, tensor: str) -> bool:
        """Whether there is such a tensor of the module."""
        return f"{self.module}.{tensor}" in self.checkpoint.names()

    def read(self, tensor: str, *source: slice, shape: tuple[int, ...] | None = None) -> tuple[np.ndarray, bool]:
        """Part `source` of a tensor, all of it if none is given, and whether it is bfloat16.

        Args:
            shape: of a tensor that the layout does not need.
        """
        shape = shape or self.layout.tensors(self.shape)[tensor]
        return self.checkpoint.read(f"{self.module}.{tensor}", shape, source or whole(shape), linear=False)

    def values(self, tensor: str, dtype: str, *source: slice, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """The same of a tensor that must be of `dtype`, as safetensors files call it."""
        found, _ = self.read(tensor, *source, shape=shape)
        if found.dtype != NUMPY[dtype]:
            raise self.unlike(tensor, f"not {dtype}", "it")
        return found

    def unlike(self, tensor: str, found: str, wanted: str) -> CheckpointError:
        """The error for a tensor that is not what config.json says."""
        name = f"{self.module}.{tensor}"
        return CheckpointError(
            f"{self.checkpoint.file_of(name)}: tensor {name!r} is {found}, but quantization_config of config.json asks for "
            f"{wanted}: take all files from one model."
        )


class _Whole:
    """What is the same for layouts whose columns are all alike."""

    known: ClassVar[tuple[str, ...]] = ()
    as_held: ClassVar[Mapping[str, str]] = {}

    def misfit(self, shape):
        return ""

    def can_take(self, columns, width):
        return True

    def order(self, file):
        return None


@dataclass(frozen=True)
class Plain(_Whole):
    """A weight that is not quantised, as the Hub has it, cast to `dtype`."""

    dtype: str
    held: ClassVar = None

    def tensors(self, shape):
        return {"weight": shape}

    def number(self, file):
        return numpy_dtype(self.dtype)

    def read(self, file, rows, order):
        return {"weight": cast(*file.read("weight", rows, file.columns), self.dtype)}


@dataclass(frozen=True)
class _Scaled(_Whole):
    """Values of a byte, `weight` `[out, in]`, and `weight_scale` `[out, 1]`, or one for all `[1]`."""

    scale_of_each: bool
    known: ClassVar = (*ACTIVATIONS, "weight_zero_point")
    as_held: ClassVar = {"weight": "weight", "scale": "weight_scale"}

    def tensors(self, shape):
        return {"weight": shape, "weight_scale": (shape[0], 1) if self.scale_of_each else (1,)}

    def number(self, file):
        return file.read("weight_scale")[0].dtype

    def _scale(self, file: WeightFile, rows: slice) -> np.ndarray:
        scale, _ = file.read("weight_scale")
        return np.broadcast_to(scale.reshape(-1), file.shape[0])[rows]


class Bytes(_Scaled):
    """compressed-tensors' "int-quantized": values in int8."""

    held = "int8"

    def read(self, file, rows, order):
        is_bfloat16 = file.read("weight_scale")[1]
        scale = cast(self._scale(file, rows), is_bfloat16, "float32")
        return {"weight": file.values("weight", "I8", rows, file.columns), "scale": scale}


class Floats(_Scaled):
    """compressed-tensors' "float-quantized": values in float8 with 4 bits of exponent."""

    held = "fp8"

    def read(self, file, rows, order):
        values = file.values("weight", "F8_E4M3", rows, file.columns).view(np.uint8)
        if (values & 127).max() == 127:
            raise file.unlike("weight", "not finite", "numbers")
        return {"weight": values, "scale": self._scale(file, rows)}
