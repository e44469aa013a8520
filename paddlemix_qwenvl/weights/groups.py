"""Layouts of weights of 4 bits a number, in groups along the input that share a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from paddlemix_qwenvl.errors import ParallelError
from paddlemix_qwenvl.weights.layouts import ACTIVATIONS, WeightFile

GROUPS_OF = 32
"""What every group size is a multiple of, as the products of `ops/int4.py` want it."""


@dataclass(frozen=True)
class Groups:
    """Weights of 4 bits in groups along the input; `group_size` None for one group of all."""

    group_size: int | None
    has_zeros: bool = True
    may_have_order: bool = False
    held: ClassVar = "int4"
    known: ClassVar[tuple[str, ...]] = ()
    scale_name: ClassVar[str] = ""

    def misfit(self, shape):
        size = self.group_size or GROUPS_OF
        return f"{shape[1]} inputs are no whole groups of {size}" if shape[1] % size else ""

    def can_take(self, columns, width):
        size = self.group_size or GROUPS_OF
        if columns == slice(0, width):
            return True
        whole = columns.start < columns.stop and columns.start % size == columns.stop % size == 0
        return whole and not self.may_have_order

    def order(self, file):
        return None

    def zeros_differ(self, file: WeightFile) -> bool:
        """Whether there are other zeros than 8."""
        return self.has_zeros

    def number(self, file):
        return file.read(self.scale_name)[0].dtype

    def _groups(self, columns: slice) -> slice:
        """Which of the groups columns are."""
        return (
            slice(columns.start // self.group_size, columns.stop // self.group_size) if self.group_size else slice(0, 1)
        )

    def _count(self, width: int) -> int:
        return width // self.group_size if self.group_size else 1

    def _order(self, file: WeightFile, tensor: str) -> np.ndarray | None:
        if not file.has(tensor):
            return None
        width, size = file.shape[1], self.group_size or file.shape[1]
        groups, in_place = file.values(tensor, "I32", shape=(width,)), np.arange(width) // size
        if np.array_equal(groups, in_place):
            return None
        if not np.array_equal(np.sort(groups), in_place):
            raise file.unlike(tensor, "of other groups", f"{width // size} of {size} columns each")
        if file.columns != slice(0, width):
            raise ParallelError(
                f"{file.module}.{tensor} deals columns out to groups by their activations, which cannot be split over ranks: "
                f"start one rank."
            )
        return np.argsort(groups, kind="stable").astype(np.int32)


class _Words(Groups):
    """Those of `qweight`, `qzeros` int32 `[groups, out / 8]` and `scales` `[groups, out]`."""

    scale_name: ClassVar = "scales"

    def misfit(self, shape):
        uneven = [f"{size} {what}" for size, what in zip(shape, ("outputs", "inputs"), strict=True) if size % 8]
        return f"{uneven[0]} are no whole words of 8" if uneven else super().misfit(shape)


class Awq(_Words):
    """AutoAWQ's version "gemm": `qweight` int32 `[in, out / 8]`, `qzeros` int32 `[groups, out / 8]`, `scales` `[groups, out]`.

    The half-bytes of a word are outputs 0, 2, 4, 6, 1, 3, 5, 7.
    """

    _LOW, _HIGH = (0, 4, 1, 5), (2, 6, 3, 7)  # outputs in the halves of a word's four bytes

    def tensors(self, shape):
        outputs, groups = shape[0], self._count(shape[1])
        return {
            "qweight": (shape[1], outputs // 8),
            "qzeros": (groups, outputs // 8),
            "scales": (groups, outputs),
        }

    def read(self, file, rows, order):
        groups, (words, cut) = self._groups(file.columns), _covering(rows)
        halves = _bytes(file.values("qweight", "I32", file.columns, words))
        zeros = _bytes(file.values("qzeros", "I32", groups, words))
        even, odd = halves[0::2], halves[1::2]
        values = self._outputs(even & 15 | odd << 4, even >> 4 | odd & 0xF0)
        return {
            "weight": values[cut],
            "scale": file.read("scales", groups, rows)[0].T,
            "zeros": self._outputs(zeros & 15, zeros >> 4)[cut],
        }

    def _outputs(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """`[n, out / 2]` of the low and high halves of bytes -> `[out, n]`."""
        n, width = low.shape
        found = np.empty([width // 4, 8, n], np.uint8)
        for halves, outputs in ((low, self._LOW), (high, self._HIGH)):
            for byte, output in enumerate(outputs):
                found[:, output] = halves[:, byte::4].T
        return found.reshape(2 * width, n)


@dataclass(frozen=True)
class Gptq(_Words):
    """AutoGPTQ's and GPTQModel's: `qweight` int32 `[in / 8, out]`, `qzeros` int32 `[groups, out / 8]`, `scales` `[groups, out]`,
    `g_idx` int32 `[in]`.

    Attributes:
        added: what is added to the zeros of the file: 1 in version 1.
    """

    added: int = 1
    known: ClassVar = ("g_idx",)

    def order(self, file):
        return self._order(file, "g_idx")

    def zeros_differ(self, file):
        return bool((self._zeros(file) != 0x88888888).any())

    def _zeros(self, file: WeightFile, *part: slice) -> np.ndarray:
        """Words of version 2. Version 1 took its ones from whole words, so that a zero of 0 borrowed from the next."""
        return file.values("qzeros", "I32", *part).view(np.uint32) + np.uint32(0x11111111 * self.added)

    def tensors(self, shape):
        outputs, groups = shape[0], self._count(shape[1])
        return {
            "qweight": (shape[1] // 8, outputs),
            "qzeros": (groups, outputs // 8),
            "scales": (groups, outputs),
        }

    def read(self, file, rows, order):
        groups, (words, cut), (output_words, output_cut) = (
            self._groups(file.columns),
            _covering(file.columns),
            _covering(rows),
        )
        values = _bytes(file.values("qweight", "I32", words, rows).T)
        zeros = numbers(_bytes(self._zeros(file, groups, output_words))).T[output_cut]
        return {
            "weight": _ordered(_halves(values, cut), order),
            "scale": file.read("scales", groups, rows)[0].T,
            "zeros": zeros,
        }


@dataclass(frozen=True)
class Packed(Groups):
    """compressed-tensors' "pack-quantized": `weight_packed` int32 `[out, in / 8]`, `weight_scale` `[out, groups]`,
    `weight_zero_point` int32 `[out / 8, groups]` where zeros are not all 8, `weight_g_idx` int32 `[in]`, `weight_shape`.
    """

    scale_name: ClassVar = "weight_scale"
    known: ClassVar = (*ACTIVATIONS, "weight_shape", "weight_g_idx", "weight_zero_point")

    def tensors(self, shape):
        groups = self._count(shape[1])
        found = {"weight_packed": (shape[0], -(-shape[1] // 8)), "weight_scale": (shape[0], groups)}
        return found | ({"weight_zero_point": (-(-shape[0] // 8), groups)} if self.has_zeros else {})

    def order(self, file):
        return self._order(file, "weight_g_idx")

    def read(self, file, rows, order):
        groups, (words, cut) = self._groups(file.columns), _covering(file.columns)
        values = _bytes(file.values("weight_packed", "I32", rows, words))
        found = {
            "weight": _ordered(_halves(values, cut), order),
            "scale": file.read("weight_scale", rows, groups)[0],
        }
        if self.has_zeros:
            words, cut = _covering(rows)
            zeros = file.values("weight_zero_point", "I32", words, groups)
            found["zeros"] = numbers(_bytes(zeros.T)).T[cut]
        return found


def _covering(part: slice) -> tuple[slice, slice]:
    """The words of 8 numbers that hold a part of them, and where in these the part is."""
    first, last = part.start // 8, -(-part.stop // 8)
    return slice(first, last), slice(part.start - first * 8, part.stop - first * 8)


def _halves(values: np.ndarray, part: slice) -> np.ndarray:
    """Some columns of `[n, in / 2]`."""
    return values[:, part.start // 2 : part.stop // 2]


def _bytes(words: np.ndarray) -> np.ndarray:
    """uint8 `[n, 4 * m]` of int32 `[n, m]`, the lowest byte first."""
    return np.ascontiguousarray(words).view(np.uint8)


def numbers(halves: np.ndarray) -> np.ndarray:
    """uint8 `[n, 2 * m]` of 0 to 15, of bytes `[n, m]` that hold two each, the first in the low half."""
    return np.stack([halves & 15, halves >> 4], axis=-1).reshape(len(halves), -1)


def halves(values: np.ndarray) -> np.ndarray:
    """The bytes `[n, m / 2]` of numbers `[n, m]`, of which the last ones may lack a second."""
    even = np.pad(values, ((0, 0), (0, values.shape[1] % 2)))
    return even[:, ::2] | even[:, 1::2] << 4


def words(packed: np.ndarray) -> np.ndarray:
    """int32 `[n, m / 4]` of bytes `[n, m]`, the last one filled up."""
    filled = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 4)))
    return np.ascontiguousarray(filled).view("<i4")


def _ordered(values: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Packed columns `[n, in / 2]` in another order."""
    if order is None:
        return values
    return halves(numbers(values)[:, order])
