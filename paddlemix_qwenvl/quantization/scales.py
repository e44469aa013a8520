"""Activation-aware scales: inputs that carry much are made larger in the weight, and smaller in what comes before it.

Source: AWQ (arXiv:2306.00978, section 3.2): s = mean(|x|)^a, and of a grid of a the one whose products are nearest. The output
projection of attention is folded into the values before it; where several query heads share these, they share the factors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import paddle
from paddle import Tensor, nn

from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.files import whole_file
from paddlemix_qwenvl.layers.linear import Linear, MergedColumnParallelLinear, RowParallelLinear
from paddlemix_qwenvl.layers.norm import RMSNorm
from paddlemix_qwenvl.quantization.methods import groups_rounded
from paddlemix_qwenvl.quantization.source import modules_of

GRID = 20
ROWS = 1024  # tokens that candidates are tried on


@dataclass
class Scales:
    """Factors in float32 by the Hub's names, kept in a file.

    Attributes:
        columns: module -> of its weight's inputs, `[in]`.
        rows: module or norm -> what its weight and bias are divided by, `[out]`.
        blocks: those that have theirs.
    """

    path: Path
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    blocks: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, path: Path) -> Scales:
        """What is in the file; none if there is none.

        Raises:
            CheckpointError: a file of another kind.
        """
        found = cls(path)
        if not path.is_file():
            return found
        try:
            with np.load(path, allow_pickle=False) as file:
                found.blocks.update(file["blocks"].tolist())
                for name in file.files:
                    kind, _, module = name.partition(" ")
                    if module:
                        {"columns": found.columns, "rows": found.rows}[kind][module] = file[name]
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise CheckpointError(f"{path} cannot be read ({error}): delete it, and start again.") from error
        return found

    def save(self) -> None:
        """Write them all."""
        named = {f"columns {name}": values for name, values in self.columns.items()}
        named |= {f"rows {name}": values for name, values in self.rows.items()}
        with whole_file(self.path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, blocks=np.array(sorted(self.blocks)), **named)

    def touches(self, name: str) -> bool:
        """Whether `applied` changes a tensor."""
        module, _, leaf = name.rpartition(".")
        return module in self.rows or (leaf == "weight" and module in self.columns)

    def applied(self, name: str, values: np.ndarray) -> np.ndarray:
        """A tensor of the model whose products are the same."""
        module, _, leaf = name.rpartition(".")
        if leaf == "weight" and module in self.columns:
            values = values * self.columns[module]
        if module in self.rows:
            values = values / self.rows[module].reshape([-1] + [1] * (values.ndim - 1))
        return values

    def undone(self, module: str, weight: np.ndarray) -> np.ndarray:
        """The weight of a module that `applied` made this one of."""
        if module in self.columns:
            weight = weight / self.columns[module]
        return weight * self.rows[module][:, None] if module in self.rows else weight

    @contextmanager
    def watch(self, path: str, block: nn.Layer, group_size: int) -> Iterator[None]:
        """Look for those of a block that is run within, unless they are there; they are kept at once."""
        if path in self.blocks:
            yield
            return
        folds = [(fold, _Inputs(fold.layer)) for fold in _folds(path, block)]
        yield
        for fold, inputs in folds:
            fold.add(self, best_factors(fold, inputs.stop(), inputs.sizes(), group_size).numpy())
        self.blocks.add(path)
        self.save()


class _Inputs:
    """What a layer is given: how large its inputs are, and some of the rows."""

    def __init__(self, layer: Linear):
        self._total, self._count, self._parts = 0.0, 0, []
        self._hook = layer.register_forward_pre_hook(self._note)

    def _note(self, layer: Linear, inputs: tuple) -> None:
        rows = inputs[0].astype("float32")
        self._total, self._count = self._total + rows.abs().sum(0), self._count + len(rows)
        self._parts.append(rows)
        if len(self._parts) > 1 and sum(map(len, self._parts)) > 4 * ROWS:
            self._parts = [self._some()]

    def _some(self) -> Tensor:
        rows = paddle.concat(self._parts)
        return rows[:: -(-len(rows) // ROWS)]

    def stop(self) -> Tensor:
        """Some of the rows `[T, in]`; no more are noted."""
        self._hook.remove()
        return self._some()

    def sizes(self) -> Tensor:
        """Mean magnitude `[in]`."""
        return self._total / self._count


@dataclass(frozen=True)
class Fold:
    """A layer whose inputs are scaled, and what they come from.

    Attributes:
        modules: the Hub's modules in the layer.
        before: name of the module or norm that the factors go into, and its size.
        rows: which of its outputs have factors.
        share: int64 `[in]`, the factor that each input has.
    """

    layer: Linear
    modules: list[str]
    before: tuple[str, int]
    rows: slice
    share: np.ndarray

    def add(self, scales: Scales, factors: np.ndarray) -> None:
        """Note what was found, `[count of factors]`."""
        scales.columns |= dict.fromkeys(self.modules, factors[self.share])
        name, size = self.before
        scales.rows.setdefault(name, np.ones(size, np.float32))[self.rows] = factors


def best_factors(fold: Fold, x: Tensor, sizes: Tensor, group_size: int) -> Tensor:
    """Of the grid, the factors with which a layer's products are nearest to what they were.

    Args:
        x: float32 `[T, in]`.
        sizes: float32 `[in]`.
    """
    weight, share = fold.layer.weight, paddle.to_tensor(fold.share)
    count = int(fold.share.max()) + 1
    totals = paddle.zeros([count]).index_add(share, 0, sizes)
    sizes, best, least = (totals * count / len(fold.share)).clip(min=1e-4), None, float("inf")
    for step in range(GRID):
        factors = sizes ** (step / GRID)
        factors = factors / (factors.max() * factors.min()).sqrt()
        columns = factors.index_select(share)
        rounded = groups_rounded((weight * columns).astype("float16"), group_size) / columns
        error = float((x @ (rounded - weight).T).square().sum())
        if error < least:
            best, least = factors, error
    return paddle.ones_like(sizes) if best is None else best


def _folds(path: str, block: nn.Layer) -> Iterator[Fold]:
    """Of a pre-norm block: queries, keys and values after the first norm, gate and up after the second, each row layer after the
    last part of what is before it."""
    found = {
        kind: [(f"{path}.{name}", layer) for name, layer in block.named_sublayers() if isinstance(layer, kind)]
        for kind in (RMSNorm, MergedColumnParallelLinear, RowParallelLinear)
    }
    for (norm, _), (name, layer), (last_name, last) in zip(*found.values(), strict=True):
        width, inner = layer.weight.shape[1], last.weight.shape[1]
        yield Fold(layer, modules_of(name, layer), (norm, width), slice(0, width), np.arange(width))
        piece = layer.pieces[-1]
        rows, before = piece.source[0], piece.name(f"{name}.weight").removesuffix(".weight")
        yield Fold(last, modules_of(last_name, last), (before, piece.shape[0]), rows, _shared(block, inner, rows))


def _shared(block: nn.Layer, inputs: int, rows: slice) -> np.ndarray:
    """Which of the factors of `rows` each input has: values are shared by the query heads of a group."""
    count = rows.stop - rows.start
    if count == inputs:
        return np.arange(inputs)
    heads = next(layer.heads for layer in block.sublayers() if hasattr(layer, "heads"))
    grouped = np.arange(count).reshape(heads.num_kv_heads, 1, heads.head_dim)
    return np.repeat(grouped, heads.num_heads // heads.num_kv_heads, axis=1).ravel()
