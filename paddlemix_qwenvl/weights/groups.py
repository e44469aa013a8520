"""Layouts of weights of 4 or 8 bits a number, in groups along the input that share a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from paddlemix_qwenvl.weights.casts import cast
from paddlemix_qwenvl.weights.layouts import ACTIVATIONS, Arrays, WeightFile
from paddlemix_qwenvl.weights.order import GROUPS_OF, Order


@dataclass(frozen=True)
class Groups:
    """Weights of 4 or 8 bits in groups along the input; `group_size` None for one group of all.

    Those of 8 bits have no zeros but 128.
    """

    group_size: int | None
    has_zeros: bool = True
    may_have_order: bool = False
    bits: int = 4
    known: ClassVar[tuple[str, ...]] = ()
    scale_name: ClassVar[str] = ""

    @property
    def as_held(self) -> dict[str, str]:
        """As in `Layout`."""
        return {}

    @property
    def per_word(self) -> int:
        """Numbers of a word."""
        return 32 // self.bits

    def misfit(self, shape):
        size = self.group_size or GROUPS_OF
        return f"{shape[1]} inputs are no whole groups of {size}" if shape[1] % size else ""

    def can_take(self, columns, width):
        size = self.group_size or GROUPS_OF
        if columns == slice(0, width):
            return True
        return columns.start < columns.stop and (self.may_have_order or self._are_whole_groups(columns, size))

    @staticmethod
    def _are_whole_groups(columns: slice, size: int) -> bool:
        return columns.start % size == columns.stop % size == 0

    def order(self, file):
        return None

    def zeros_differ(self, file: WeightFile) -> bool:
        """Whether there are other zeros than the middle."""
        return self.has_zeros

    def number(self, file):
        return file.read(self.scale_name)[0].dtype

    def _groups(self, file: WeightFile, order: Order | None) -> slice:
        """Which of the groups are read for this rank's columns."""
        if order is not None or not self.group_size:
            return slice(0, self._count(file.shape[1]))
        return slice(file.columns.start // self.group_size, file.columns.stop // self.group_size)

    def _covering(self, part: slice) -> tuple[slice, slice]:
        """The words that hold a part of the numbers, and where in these the part is."""
        first, last = part.start // self.per_word, -(-part.stop // self.per_word)
        return slice(first, last), slice(part.start - first * self.per_word, part.stop - first * self.per_word)

    def _held(
        self,
        values: np.ndarray,
        columns: slice,
        order: Order | None,
        scale: tuple[np.ndarray, bool],
        zeros: np.ndarray | None,
    ) -> Arrays:
        """Rows as the format holds them.

        Args:
            values: all bytes of their words.
            columns: which numbers of these.
            scale, zeros: `[n, groups]`; of the scale whether it is bfloat16, too.
        """
        steps, is_bfloat16 = scale
        if order is not None:
            steps = steps[:, order.groups]
            zeros = None if zeros is None else zeros[:, order.groups]
        if self.bits == 4:
            if order is None:
                packed = values[:, columns.start // 2 : columns.stop // 2]
            else:
                packed = halves(order.of(numbers(values)[:, columns], 8 if zeros is None else zeros))
            return {"weight": packed, "scale": steps, **({} if zeros is None else {"zeros": zeros})}
        values = (values[:, columns] ^ 128).view(np.int8)
        return in_groups(values if order is None else order.of(values, 0), cast(steps, is_bfloat16, "float32"))

    def _count(self, width: int) -> int:
        return width // self.group_size if self.group_size else 1

    def _order(self, file: WeightFile, tensor: str) -> Order | None:
        if not file.has(tensor):
            return None
        width, size = file.shape[1], self.group_size or file.shape[1]
        groups, in_place = file.values(tensor, "I32", shape=(width,)), np.arange(width) // size
        if not np.array_equal(np.sort(groups), in_place):
            raise file.unlike(tensor, "of other groups", f"{width // size} of {size} columns each")
        columns, whole = file.columns, slice(0, width)
        in_groups = columns == whole or self._are_whole_groups(columns, self.group_size or GROUPS_OF)
        if in_groups and np.array_equal(groups[columns], in_place[columns]):
            return None
        if columns == whole:
            return Order(np.argsort(groups, kind="stable").astype(np.int32), np.arange(width // size), size)
        return Order.filled_up(groups[columns])


class _Words(Groups):
    """Those of `qweight`, `qzeros` int32 `[groups, out / 8]` and `scales` `[groups, out]`."""

    scale_name: ClassVar = "scales"

    def misfit(self, shape):
        named = zip(shape, ("outputs", "inputs"), strict=True)
        uneven = [f"{size} {what}" for size, what in named if size % self.per_word]
        return f"{uneven[0]} are no whole words of {self.per_word}" if uneven else super().misfit(shape)


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
        groups, (words, cut) = self._groups(file, order), self._covering(rows)
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
    """AutoGPTQ's and GPTQModel's, of n numbers a word: `qweight` int32 `[in / n, out]`, `qzeros` int32 `[groups, out / n]`,
    `scales` `[groups, out]`, `g_idx` int32 `[in]`.

    Attributes:
        version: of the layout; 1 has zeros less 1.
    """

    version: int = 1
    known: ClassVar = ("g_idx",)

    def tensors(self, shape):
        words, groups = shape[0] // self.per_word, self._count(shape[1])
        return {
            "qweight": (shape[1] // self.per_word, shape[0]),
            "qzeros": (groups, words),
            "scales": (groups, shape[0]),
        }

    def order(self, file):
        return self._order(file, "g_idx")

    def zeros_differ(self, file):
        return bool((self._zeros(file) != self._ones() << (self.bits - 1)).any())

    def _ones(self) -> np.uint32:
        """A 1 in each place of a word."""
        return np.uint32(sum(1 << place for place in range(0, 32, self.bits)))

    def _zeros(self, file: WeightFile, *part: slice) -> np.ndarray:
        """Words as version 2 has them. Version 1 took its ones from whole words, so that a zero of 0 borrowed from the next."""
        return file.values("qzeros", "I32", *part).view(np.uint32) + (
            self._ones() if self.version == 1 else np.uint32(0)
        )

    def read(self, file, rows, order):
        groups, (words, cut) = self._groups(file, order), self._covering(file.columns)
        values = _bytes(file.values("qweight", "I32", words, rows).T)
        scale, is_bfloat16 = file.read("scales", groups, rows)
        zeros = None
        if self.bits == 4:
            outputs, of_words = self._covering(rows)
            zeros = numbers(_bytes(self._zeros(file, groups, outputs))).T[of_words]
        return self._held(values, cut, order, (scale.T, is_bfloat16), zeros)


@dataclass(frozen=True)
class Packed(Groups):
    """compressed-tensors' "pack-quantized": `weight_packed` int32 `[out, in / 8]`, `weight_scale` `[out, groups]`,
    `weight_zero_point` int32 `[out / 8, groups]` where zeros are not all 8, `weight_g_idx` int32 `[in]`, `weight_shape`.
    """

    scale_name: ClassVar = "weight_scale"
    known: ClassVar = (*ACTIVATIONS, "weight_shape", "weight_g_idx", "weight_zero_point")

    @property
    def as_held(self):
        return {"weight": "weight_packed", "scale": "weight_scale"} if self.bits == 4 else {}

    def tensors(self, shape):
        groups, words = self._count(shape[1]), [-(-size // self.per_word) for size in shape]
        found = {"weight_packed": (shape[0], words[1]), "weight_scale": (shape[0], groups)}
        return found | ({"weight_zero_point": (words[0], groups)} if self.has_zeros else {})

    def order(self, file):
        return self._order(file, "weight_g_idx")

    def read(self, file, rows, order):
        groups, (words, cut) = self._groups(file, order), self._covering(file.columns)
        values = _bytes(file.values("weight_packed", "I32", rows, words))
        zeros = None
        if self.has_zeros:
            outputs, of_words = self._covering(rows)
            zeros = numbers(_bytes(file.values("weight_zero_point", "I32", outputs, groups).T)).T[of_words]
        return self._held(values, cut, order, file.read("weight_scale", rows, groups), zeros)


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


def in_groups(values: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
    """int8 values `[n, in]` and a scale `[n, groups]` under the names of `layers/formats.py: Beside`."""
    found: dict[str, np.ndarray] = {}
    for group, part in enumerate(np.split(values, scale.shape[1], axis=1)):
        found |= {f"blocks.{group}.weight": part, f"blocks.{group}.scale": scale[:, group]}
    return found
