"""What AWQ makes of a model: factors that change no product, and the rounded weights; found block by block, and kept."""

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
from paddlemix_qwenvl.quantization.methods import widened
from paddlemix_qwenvl.quantization.rounding import rounded
from paddlemix_qwenvl.quantization.search import Inputs, Trial, best_factors

_FACTORS = ("columns", "rows")
_ROUNDED = ("weight", "scale", "zeros")


@dataclass
class Scales:
    """By the Hub's names; the file of each block is called as it is.

    Attributes:
        columns: module -> float32 factors of its weight's inputs, `[in]`.
        rows: module or norm -> what its weight and bias are divided by, float32 `[out]`.
        files: module -> the file that holds its rounded weight.
    """

    folder: Path
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)

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

    def rounded(self, module: str) -> dict[str, Tensor]:
        """The tensors of `to_int4` of a module's weight."""
        with _opened(self.files[module]) as file:
            return {name: paddle.to_tensor(file[f"{name} {module}"]) for name in _ROUNDED}

    @contextmanager
    def watch(self, path: str, block: nn.Layer, group_size: int, every: int = 1) -> Iterator[None]:
        """Look for what is AWQ's of a block that is run within, unless its file is there; `every` as in `Inputs`."""
        file = self.folder / f"{path}.npz"
        if file.is_file():
            yield
        else:
            watched = [(fold, Inputs(fold, every)) for fold in folds_of(path, block)]
            yield
            self._search(file, watched, group_size)
        self._load(file)

    def _search(self, file: Path, watched: list[tuple[Fold, Inputs]], group_size: int) -> None:
        found, kept = Scales(self.folder), {}
        for fold, inputs in watched:
            inputs.stop()
            if not bool(paddle.isfinite(inputs.sizes()).all()):
                raise CheckpointError(f"what {file.stem} computes is not finite: download the model again.")
            factors, tensors = _best(fold, inputs, group_size)
            found.columns |= dict.fromkeys(fold.modules, factors[fold.share])
            name, size = fold.before
            found.rows.setdefault(name, np.ones(size, np.float32))[fold.rows] = factors
            for module, rows in fold.modules.items():
                kept |= {f"{name} {module}": x[rows].numpy() for name, x in tensors.items()}
        for module in set(found.rows).intersection(found.columns):  # numbers and zeros stay as they are
            scale = kept[f"scale {module}"]
            kept[f"scale {module}"] = (scale / found.rows[module][:, None]).astype(scale.dtype)
        kept |= {f"{kind} {name}": x for kind in _FACTORS for name, x in getattr(found, kind).items()}
        self.folder.mkdir(exist_ok=True)
        with whole_file(file) as unfinished, unfinished.open("wb") as opened:
            np.savez(opened, **kept)

    def _load(self, path: Path) -> None:
        with _opened(path) as file:
            for key in file.files:
                kind, _, name = key.partition(" ")
                if kind in _FACTORS:
                    getattr(self, kind)[name] = file[key]
                else:
                    self.files[name] = path


def _best(fold: Fold, inputs: Inputs, group_size: int) -> tuple[np.ndarray, dict[str, Tensor]]:
    """AWQ's factors or none, with which the output is nearer, and the rounded weight with them."""
    trial, share, least = Trial(fold, inputs.calls()), paddle.to_tensor(fold.share), float("inf")
    found = best_factors(trial, inputs.sizes(), group_size)
    best = None
    for factors in (paddle.ones_like(found), found):
        columns = factors.index_select(share)
        products = [(part, x / columns[part] / columns[part].unsqueeze(-1)) for part, x in inputs.products]
        tensors = rounded(trial.weight * columns, products, group_size)
        error = trial.error(widened(tensors) / columns)
        if best is None or error < least:
            best, least = (factors.numpy(), tensors), error
    return best


@contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (OSError, EOFError, TypeError, ValueError, KeyError, AttributeError, BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): delete it, and start again.") from error
