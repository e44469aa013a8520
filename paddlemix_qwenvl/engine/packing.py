"""A decode step's inputs in one int32 array, so that one copy takes them to a device, and taken apart there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import paddle

from paddlemix_qwenvl.engine.runner import StepInputs
from paddlemix_qwenvl.engine.sampling import Row, settings_of
from paddlemix_qwenvl.ops.marks import SETTINGS, TokenMarks

_FLOATS = ("ntk_alpha", "settings", "uniform", "bias")
_LEAST_BLOCKS, _LEAST_MARKS = 16, 256  # sizes below take no less time


@dataclass(frozen=True)
class Sizes:
    """Of a decode step's inputs, powers of two, so that there are few different ones.

    Attributes:
        rows: sequences, those that fill up among them.
        blocks: of a block table.
        marks: of all rows together, 0 for none.
        position_rows: positions of a token.
    """

    rows: int
    blocks: int
    marks: int
    position_rows: int

    @classmethod
    def of(cls, inputs: StepInputs, rows: list[Row]) -> Sizes:
        """The least that hold a step."""
        batch, blocks = inputs.block_tables.shape
        batch, marks = _power(batch), sum(row.marks.tokens.size for row in rows)
        marks = _power(marks + batch, _LEAST_MARKS) if marks or any(row.marks.penalised for row in rows) else 0
        return cls(batch, _power(blocks, _LEAST_BLOCKS), marks, len(inputs.position_ids))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parts, in the order in which they lie."""
        rows = self.rows
        marks = {name: (self.marks,) for name in ("tokens", "counts", "bias", "row_of")} | {"offsets": (rows + 1,)}
        return {
            "known": (rows + 1,),
            "places": (2 * rows,),
            "position_ids": (self.position_rows, rows),
            "cu_seqlens": (rows + 1,),
            "lengths": (rows,),
            "block_tables": (rows, self.blocks),
            "slot_mapping": (rows,),
            "ntk_alpha": (rows,),
            "settings": (rows, len(SETTINGS)),
            "uniform": (rows,),
            **(marks if self.marks else {}),
        }


def _power(count: int, least: int = 1) -> int:
    return max(least, 1 << (count - 1).bit_length())


def pack(inputs: StepInputs, rows: list[Row], sizes: Sizes, spare_block: int, block_size: int) -> np.ndarray:
    """The array.

    An id `-1 - r` stands for the token that row `r` of the step before drew. `places` says where each row's id is found in `known`
    and, after it, those tokens; and then where its marks' newest is, which is -1 for rows that count none.

    Args:
        spare_block: of the cache, that rows which fill up write to.
    """
    batch = len(rows)
    parts = {
        name: np.zeros(shape, np.float32 if name in _FLOATS else np.int32) for name, shape in sizes.shapes().items()
    }
    unread = inputs.ids < 0
    parts["known"][:batch] = np.where(unread, 0, inputs.ids)
    parts["known"][-1] = -1
    own, drawn = np.arange(sizes.rows), sizes.rows - inputs.ids  # -1 - r stands behind the rows + 1 that are known
    counting = unread & np.array([row.marks.penalised for row in rows])
    parts["places"][:] = np.concatenate([own, np.full(sizes.rows, sizes.rows)])
    parts["places"][:batch][unread] = drawn[unread]
    parts["places"][sizes.rows :][:batch][counting] = drawn[counting]
    parts["position_ids"][:, :batch] = inputs.position_ids
    parts["cu_seqlens"][:] = np.arange(sizes.rows + 1)
    parts["lengths"][:] = 1
    parts["lengths"][:batch] = inputs.lengths
    parts["block_tables"][batch:] = spare_block
    parts["block_tables"][:batch, : inputs.block_tables.shape[1]] = inputs.block_tables
    parts["slot_mapping"][:] = spare_block * block_size + own % block_size
    parts["slot_mapping"][:batch] = inputs.slot_mapping
    parts["ntk_alpha"][:] = 1
    parts["ntk_alpha"][:batch] = inputs.ntk_alpha
    parts["settings"][:batch], parts["uniform"][:batch] = settings_of(rows)
    if sizes.marks:
        _put_marks(parts, rows, sizes)
    return np.concatenate([part.reshape(-1).view(np.int32) for part in parts.values()])


def _put_marks(parts: dict[str, np.ndarray], rows: list[Row], sizes: Sizes) -> None:
    """Each row's marks, and after them one that is nobody's; the last row has all that is left over."""
    parts["tokens"][:] = -1
    start = 0
    for place, row in enumerate(rows):
        span = slice(start, start + row.marks.tokens.size)
        parts["tokens"][span], parts["counts"][span] = row.marks.tokens, row.marks.counts
        parts["bias"][span] = row.marks.biases(row.new_tokens, row.settings)
        start = parts["offsets"][place + 1] = span.stop + 1
    parts["offsets"][len(rows) + 1 :] = start + np.arange(1, sizes.rows - len(rows) + 1)
    parts["offsets"][-1] = sizes.marks
    parts["row_of"][:] = np.repeat(np.arange(sizes.rows), np.diff(parts["offsets"]))


def unpack(packed: paddle.Tensor, sizes: Sizes) -> dict[str, paddle.Tensor]:
    """The parts, by name."""
    shapes = sizes.shapes()
    pieces = packed.split([math.prod(shape) for shape in shapes.values()])
    parts = {name: piece.reshape(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
    return parts | {name: parts[name].view("float32") for name in _FLOATS if name in parts}


def marks_of(parts: dict[str, paddle.Tensor], newest: paddle.Tensor) -> TokenMarks | None:
    """The marks of a step, with the `newest` token of each row, int32 `[rows]`, counted in; -1 for none."""
    if "tokens" not in parts:
        return None
    offsets, tokens, counts = parts["offsets"], parts["tokens"], parts["counts"]
    last = offsets[1:] - 1
    found = paddle.logical_and(tokens == newest.gather(parts["row_of"]), tokens >= 0)
    counts = paddle.where(found, counts.clip(min=0) + 1, counts)
    totals = paddle.cumsum(found, dtype="int32").gather(last)
    is_new = paddle.diff(totals, prepend=paddle.zeros([1], "int32")) == 0
    tokens = paddle.scatter(tokens, last, paddle.where(is_new, newest, paddle.full_like(newest, -1)))
    return TokenMarks(offsets, tokens, paddle.scatter(counts, last, paddle.ones_like(newest)), parts["bias"])
