"""Parameters that know where their values lie in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Piece:
    """One tensor of a checkpoint, as far as this rank needs it, and its place in a parameter.

    Attributes:
        shape: full shape of the tensor in a Hub file (Linear weights as `[out, in]`).
        source: this rank's part of it, one slice a dimension.
        rows: where that part goes in the parameter's first dimension.
        module: name of the Hub's module where it differs from ours (`q_proj` inside `qkv_proj`).
        linear: a Linear weight, which Paddle's own files hold as `[in, out]`.
    """

    shape: tuple[int, ...]
    source: tuple[slice, ...]
    rows: slice
    module: str | None = None
    linear: bool = False

    def name(self, path: str) -> str:
        """Hub name of the tensor, for the parameter at `path` in the model."""
        if self.module is None:
            return path
        parent, _, leaf = path.rpartition(".")
        return ".".join(filter(None, [parent.rpartition(".")[0], self.module, leaf]))


def whole(shape) -> tuple[slice, ...]:
    """Slices that take all of a tensor of `shape`."""
    return tuple(slice(0, size) for size in shape)


def pieces_of(parameter) -> list[Piece]:
    """The pieces a parameter is made of; one, the parameter itself, where its layer says nothing else."""
    pieces = getattr(parameter, "pieces", None)
    if pieces is not None:
        return pieces
    shape = tuple(parameter.shape)
    return [Piece(shape=shape, source=whole(shape), rows=slice(0, shape[0]))]


def of_own_part(pieces: Iterable[Piece], linear: bool = False) -> list[Piece]:
    """The same pieces as they are in a checkpoint that holds this rank's part of each tensor and no more: those of one tensor lie
    there one under another.

    Args:
        linear: whether they are Linear weights there, even if they are none in other checkpoints.
    """
    heights: dict[str | None, int] = {}
    found = []
    for piece in pieces:
        first = heights.get(piece.module, 0)
        height, *others = (part.stop - part.start for part in piece.source)
        heights[piece.module] = first + height
        source = slice(first, first + height), *(slice(0, size) for size in others)
        found.append((piece, source, others))
    return [
        replace(piece, shape=(heights[piece.module], *others), source=source, linear=piece.linear or linear)
        for piece, source, others in found
    ]
