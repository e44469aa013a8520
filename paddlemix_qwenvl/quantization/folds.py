"""Where a block's inputs can be scaled without changing what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from paddle import nn

from paddlemix_qwenvl.layers.linear import Linear, MergedColumnParallelLinear, RowParallelLinear
from paddlemix_qwenvl.layers.norm import RMSNorm


@dataclass(frozen=True)
class Fold:
    """A layer whose inputs are scaled, and what they come from.

    Attributes:
        inspected: whose output tells how good factors are: attention or the MLP that the layer begins, else the layer itself.
        modules: the Hub's modules in the layer, and the rows of each.
        before: name of the module or norm that the factors go into, and its size.
        rows: which of its outputs have factors.
        share: int64 `[in]`, the factor that each input has.
    """

    layer: Linear
    inspected: nn.Layer
    modules: dict[str, slice]
    before: tuple[str, int]
    rows: slice
    share: np.ndarray


def folds_of(path: str, block: nn.Layer) -> Iterator[Fold]:
    """Of a pre-norm block at `path`: queries, keys and values after the first norm, gate and up after the second, each row layer
    after the last part of what is before it."""
    found = {
        kind: [(f"{path}.{name}", layer) for name, layer in block.named_sublayers() if isinstance(layer, kind)]
        for kind in (RMSNorm, MergedColumnParallelLinear, RowParallelLinear)
    }
    for (norm, _), (name, layer), (last_name, last) in zip(*found.values(), strict=True):
        width, inner = layer.weight.shape[1], last.weight.shape[1]
        part = next(part for part in block.children() if any(layer is each for each in part.sublayers()))
        yield Fold(layer, part, _modules(name, layer), (norm, width), slice(0, width), np.arange(width))
        piece = layer.pieces[-1]
        rows, before = piece.source[0], piece.name(f"{name}.weight").removesuffix(".weight")
        yield Fold(last, last, _modules(last_name, last), (before, piece.shape[0]), rows, _shared(block, inner, rows))


def _modules(path: str, layer: Linear) -> dict[str, slice]:
    found: dict[str, slice] = {}
    for piece in layer.pieces:
        name = piece.name(f"{path}.weight").removesuffix(".weight")
        found[name] = slice(found.get(name, piece.rows).start, piece.rows.stop)
    return found


def _shared(block: nn.Layer, inputs: int, rows: slice) -> np.ndarray:
    """Which of the factors of `rows` each input has: values are shared by the query heads of a group."""
    count = rows.stop - rows.start
    if count == inputs:
        return np.arange(inputs)
    heads = next(layer.heads for layer in block.sublayers() if hasattr(layer, "heads"))
    grouped = np.arange(count).reshape(heads.num_kv_heads, 1, heads.head_dim)
    return np.repeat(grouped, heads.num_heads // heads.num_kv_heads, axis=1).ravel()
