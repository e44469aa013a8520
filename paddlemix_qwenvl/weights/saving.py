"""A model's weights out into files of the Hub's layout."""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path

import numpy as np

from paddlemix_qwenvl.dtypes import SAFETENSORS_DTYPES, dtype_name
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.files import whole_file, write_json
from paddlemix_qwenvl.layers.parameter import pieces_of
from paddlemix_qwenvl.weights.checkpoint import SAFETENSORS, SAFETENSORS_INDEX


def save_weights(model, folder: str | os.PathLike, max_shard_bytes: int = 5 * 1024**3) -> None:
    """Write the Hub's names and orientation as safetensors, sharded over `max_shard_bytes`; old weight files there are replaced.

    Raises:
        CheckpointError: the model is quantised or split over ranks, so that the Hub's tensors are not here.
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
            "metadata": {"total_size": sum(_bytes(*entry) for shard in shards for entry in shard.values())},
            "weight_map": {n: f for f, s in zip(names, shards, strict=True) for n in s},
        }
        write_json(folder / SAFETENSORS_INDEX, index, sort_keys=True)


def _write_safetensors(path: Path, shard: dict) -> None:
    """One file, tensor by tensor; the library would want the whole shard in memory."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (parameter, pieces) in shard.items():
        end = offset + _bytes(parameter, pieces)
        stored = SAFETENSORS_DTYPES[dtype_name(parameter.dtype)]
        header[name] = {"dtype": stored, "shape": list(pieces[0].shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for parameter, pieces in shard.values():
            file.write(_hub_tensor(parameter, pieces).data)


def _shards(model, max_bytes: int) -> list[dict]:
    """Hub name -> (parameter, pieces), dealt out over files."""
    shards, size = [{}], 0
    for path, parameter in model.named_parameters():
        tensors: dict = {}
        for piece in pieces_of(parameter):
            tensors.setdefault(piece.name(path), []).append(piece)
        for name, pieces in tensors.items():
            if sum(_count(piece.source) for piece in pieces) != math.prod(pieces[0].shape):
                raise CheckpointError(f"{name!r} is split over ranks: save from a model of mp_degree 1.")
            count = _bytes(parameter, pieces)
            if size and size + count > max_bytes:
                shards.append({})
                size = 0
            shards[-1][name] = (parameter, pieces)
            size += count
    return shards


def _bytes(parameter, pieces) -> int:
    return math.prod(pieces[0].shape) * parameter.element_size()


def _count(source: tuple[slice, ...]) -> int:
    return math.prod(part.stop - part.start for part in source)


def _hub_tensor(parameter, pieces) -> np.ndarray:
    values = parameter.numpy()
    return np.ascontiguousarray(np.concatenate([values[piece.rows] for piece in pieces]))
