"""What AWQ makes of a model before it is rounded: factors that change no product, and ranges; found block by block, and kept."""

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
from paddlemix_qwenvl.quantization.folds import Fold, folds_of
from paddlemix_qwenvl.quantization.search import SHARES, Inputs, best_factors, best_ranges

_KINDS = ("columns", "rows", "ranges")


@dataclass
class Scales:
    """By the Hub's names; the file of each block is called as it is.

    Attributes:
        columns: module -> float32 factors of its weight's inputs, `[in]`.
        rows: module or norm -> what its weight and bias are divided by, float32 `[out]`.
        ranges: module -> uint8 `[out, groups]`, place in SHARES of the share of each range that is kept.
    """

    folder: Path
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    ranges: dict[str, np.ndarray] = field(default_factory=dict)

    def applied(self, name: str, values: np.ndarray) -> np.ndarray:
        """A tensor of the model whose products are the same."""
        module, _, leaf = name.rpartition(".")
        if leaf == "weight" and module in self.columns:
            values = values * self.columns[module]
        if module in self.rows:
            values = values / self.rows[module].reshape([-1] + [1] * (values.ndim - 1))
        return values

    def touches(self, name: str) -> bool:
        """Whether `applied` changes a tensor."""
        module, _, leaf = name.rpartition(".")
        return module in self.rows or (leaf == "weight" and module in self.columns)

    def undone(self, module: str, weight: np.ndarray) -> np.ndarray:
        """The weight of a module that `applied` made this one of."""
        if module in self.columns:
            weight = weight / self.columns[module]
        return weight * self.rows[module][:, None] if module in self.rows else weight

    def kept(self, module: str) -> Tensor:
        """The share of each group's range that is kept, as `to_int4` takes it."""
        return paddle.to_tensor(np.array(SHARES, np.float32)[self.ranges[module]])

    @contextmanager
    def watch(self, path: str, block: nn.Layer, group_size: int, every: int = 1) -> Iterator[None]:
        """Look for those of a block that is run within, unless its file is there; `every` as in `Inputs`."""
        file = self.folder / f"{path}.npz"
        if file.is_file():
            yield
            self._load(file)
            return
        watched = [(fold, Inputs(fold, every)) for fold in folds_of(path, block)]
        yield
        found: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in _KINDS}
        for fold, inputs in watched:
            _search(fold, *inputs.stop(), group_size, **found)
        self.folder.mkdir(exist_ok=True)
        with whole_file(file) as unfinished, unfinished.open("wb") as opened:
            np.savez(opened, **{f"{kind} {name}": x for kind, all in found.items() for name, x in all.items()})
        self._load(file)

    def _load(self, file: Path) -> None:
        try:
            with np.load(file, allow_pickle=False) as opened:
                for key in opened.files:
                    kind, _, name = key.partition(" ")
                    {kind: getattr(self, kind) for kind in _KINDS}[kind][name] = opened[key]
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise CheckpointError(f"{file} cannot be read ({error}): delete it, and start again.") from error


def _search(
    fold: Fold, calls: list, x: Tensor, sizes: Tensor, group_size: int, columns: dict, rows: dict, ranges: dict
):
    factors = best_factors(fold, calls, sizes, group_size)
    scaled = factors.index_select(paddle.to_tensor(fold.share))
    found = best_ranges(fold.layer.weight * scaled, x / scaled, group_size).numpy()
    for module, part in fold.modules.items():
        columns[module], ranges[module] = scaled.numpy(), found[part]
    name, size = fold.before
    rows.setdefault(name, np.ones(size, np.float32))[fold.rows] = factors.numpy()
