"""A model's weights out into files of the Hub's layout; quantised ones as compressed-tensors lays them out."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from paddlemix_qwenvl.dtypes import SAFETENSORS_DTYPES, dtype_name
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.files import whole_file, write_json
from paddlemix_qwenvl.layers.parameter import Piece, pieces_of
from paddlemix_qwenvl.weights.checkpoint import SAFETENSORS, SAFETENSORS_INDEX
from paddlemix_qwenvl.weights.files import NUMPY
from paddlemix_qwenvl.weights.packing import quantised_modules

_LINE = 64  # bytes of a cache line


@dataclass(frozen=True)
class _Entry:
    """A tensor of a file: its dtype as safetensors calls it, its shape, and what gives its values."""

    dtype: str
    shape: tuple[int, ...]
    values: Callable[[], np.ndarray]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(NUMPY[self.dtype]).itemsize


def save_weights(model, folder: str | os.PathLike, max_shard_bytes: int = 5 * 1024**3) -> None:
    """Write the Hub's names and orientation as safetensors, sharded over `max_shard_bytes`; old weight files there are replaced.

    Raises:
        CheckpointError: the model is split over ranks, or quantised for a card alone, so that the Hub's tensors are not here.
    """
    folder = Path(folder)
    shards = _shards(model, max_shard_bytes)
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    names = names if len(shards) > 1 else [SAFETENSORS]
    with contextlib.ExitStack() as files:
        for name, shard in zip(names, shards, strict=True):
            _write_safetensors(files.enter_context(whole_file(folder / name)), shard)
        for path in [
            *folder.glob("model-?????-of-?????.safetensors"),
            folder / SAFETENSORS,
            folder / SAFETENSORS_INDEX,
        ]:
            path.unlink(missing_ok=True)
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(entry.bytes for shard in shards for entry in shard.values())},
            "weight_map": {n: f for f, s in zip(names, shards, strict=True) for n in s},
        }
        write_json(folder / SAFETENSORS_INDEX, index, sort_keys=True)


def saved_bytes(model) -> int:
    """What the numbers take in the files that `save_weights` writes; errors as there."""
    return sum(entry.bytes for _, entry in _entries(model))


def _write_safetensors(path: Path, shard: dict[str, _Entry]) -> None:
    """One file, tensor by tensor; the library would want the whole shard in memory.

    Tensors begin at whole cache lines, for those who map them; the few of other sizes come last.
    """
    shard = dict(sorted(shard.items(), key=lambda item: item[1].bytes % _LINE > 0))
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, entry in shard.items():
        end = offset + entry.bytes
        header[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % _LINE)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in shard.values():
            file.write(np.ascontiguousarray(entry.values()).data)


def _shards(model, max_bytes: int) -> list[dict[str, _Entry]]:
    """The entries by their Hub names, dealt out over files."""
    shards, size = [{}], 0
    for name, entry in _entries(model):
        if size and size + entry.bytes > max_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = entry
        size += entry.bytes
    return shards


def _entries(model) -> Iterator[tuple[str, _Entry]]:
    for path, parameter in model.named_parameters():
        tensors: dict[str, list[Piece]] = {}
        for piece in pieces_of(parameter):
            tensors.setdefault(piece.name(path), []).append(piece)
        for name, pieces in tensors.items():
            _check_whole(name, pieces)
            dtype = SAFETENSORS_DTYPES[dtype_name(parameter.dtype)]
            yield (
                name,
                _Entry(dtype, pieces[0].shape, lambda parameter=parameter, pieces=pieces: _joined(parameter, pieces)),
            )
    for _, layer in groupby(quantised_modules(model), key=lambda module: id(module.holder)):
        modules = [*layer]
        for leaf in modules[0].tensors():  # what a layer holds as one lies together
            for module in modules:
                _check_whole(module.name, module.pieces)
                dtype, shape = module.tensors()[leaf]
                yield (
                    f"{module.name}.{leaf}",
                    _Entry(dtype, shape, lambda module=module, leaf=leaf: module.values(leaf)),
                )


def _check_whole(name: str, pieces: list[Piece]) -> None:
    if sum(math.prod(part.stop - part.start for part in piece.source) for piece in pieces) != math.prod(
        pieces[0].shape
    ):
        raise CheckpointError(f"{name!r} is split over ranks: save from a model of mp_degree 1.")


def _joined(parameter, pieces: list[Piece]) -> np.ndarray:
    values = parameter.numpy()
    return np.concatenate([values[piece.rows] for piece in pieces])
