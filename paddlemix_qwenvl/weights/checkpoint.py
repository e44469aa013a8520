"""A folder's weight files as one set of tensors; `loading` takes them into a model."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from paddlemix_qwenvl.errors import CheckpointError, ConfigurationError
from paddlemix_qwenvl.fields import Text, checked, read_object
from paddlemix_qwenvl.layers.parameter import Piece
from paddlemix_qwenvl.weights.files import PdparamsFile, SafetensorsFile, TorchFile

SAFETENSORS_INDEX = "model.safetensors.index.json"
SAFETENSORS = "model.safetensors"
WEIGHTS = (  # what a folder's weights may be called, the first choice first
    SAFETENSORS_INDEX,
    SAFETENSORS,
    "model_state.pdparams.index.json",
    "model_state.pdparams",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
FileName = Annotated[str, Field(strict=True, pattern=r"^[^/\\]{1,200}\.(safetensors|bin|pdparams)$")]


class Checkpoint:
    """The tensors of all files of a checkpoint, under the Hub's shortest names.

    Args:
        path: a weight file, or the index of several; pickled ones only with `allow_pickle`.
        prefixes: what names begin with in some files -> what they begin with on the Hub.

    Attributes:
        path: the file, or the index of several.

    Raises:
        CheckpointError: a file that is missing or damaged, a tensor that occurs twice.
    """

    def __init__(self, path: Path, allow_pickle: bool = False, prefixes: dict[str, str] | None = None):
        self.path, self._prefixes = path, prefixes or {}
        self._where: dict[str, tuple[object, str]] = {}
        index = _read_index(path) if path.suffix == ".json" else None
        for file in [path] if index is None else [path.parent / name for name in sorted(set(index.values()))]:
            if not file.is_file():
                names = [name for name, wanted in index.items() if wanted == file.name]
                raise CheckpointError(
                    f"the weight file {file} is missing, which {path.name} names for {some('tensors', names)}: "
                    f"download it again."
                )
            for name in (opened := _open(file, allow_pickle)).tensors:
                hub_name = self._hub_name(name)
                if hub_name in self._where:
                    raise CheckpointError(f"tensor {hub_name!r} is in {self.file_of(hub_name)} and again in {file}.")
                self._where[hub_name] = (opened, name)
        for name, file in (index or {}).items():
            if (hub_name := self._hub_name(name)) not in self._where or self.file_of(hub_name).name != file:
                raise CheckpointError(
                    f"{path} promises tensor {name!r} in {file}, which does not hold it: download it again."
                )

    def _hub_name(self, name: str) -> str:
        prefix = next(filter(name.startswith, self._prefixes), "")
        return self._prefixes.get(prefix, "") + name[len(prefix) :]

    def names(self) -> set[str]:
        """All tensors."""
        return set(self._where)

    def file_of(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._where[name][0].path

    def settle_layout(self, pieces: Iterable[tuple[str, Piece]]) -> None:
        """Which way Linear weights lie in files that do not say, which saving without metadata makes: shapes that are not
        square tell.

        Args:
            pieces: the model's pieces, with their names.

        Raises:
            CheckpointError: all are square, or some lie this way and some that.
        """
        silent = {opened for opened, _ in self._where.values() if opened.transposed is None}
        if not silent:
            return
        shapes = [
            (opened.tensors[stored][1], piece.shape)
            for (opened, stored), piece in ((self._where[name], piece) for name, piece in pieces if piece.linear)
            if opened in silent and len(piece.shape) == 2 and piece.shape[0] != piece.shape[1]
        ]
        as_paddle, as_hub = (any(found == wanted[::step] for found, wanted in shapes) for step in (-1, 1))
        if as_paddle == as_hub and (as_paddle or not shapes):
            raise CheckpointError(
                f"{self.path} says no format in its metadata, and its shapes do not tell how Linear weights lie: save it again "
                f"with metadata={{'format': 'pt'}} (the Hub's, [out, in]) or 'np' (Paddle's, [in, out])."
            )
        for opened in silent:
            opened.transposed = as_paddle

    def release(self, name: str) -> None:
        """Give back the memory of what was read of a tensor so far."""
        opened, stored = self._where[name]
        opened.release(stored)

    def in_place(
        self, names: Iterable[str], parts: list[np.ndarray], shape: tuple[int, ...], dtype: np.dtype
    ) -> np.ndarray | None:
        """What was read of tensors as one array in the memory of their file; None where it does not lie there so.

        Args:
            parts: as `read` gave them.
            shape, dtype: of the array.
        """
        (opened, *others) = {self._where[name][0] for name in names}
        found = opened.in_place(parts) if not others and isinstance(opened, SafetensorsFile) else None
        dtype = np.dtype(dtype)
        if found is None or found.nbytes != math.prod(shape) * dtype.itemsize or found.ctypes.data % dtype.itemsize:
            return None
        return found.view(dtype).reshape(shape)

    def stored(self, name: str) -> tuple[np.ndarray, bool]:
        """A mapped tensor as it lies in its file, and whether it is bfloat16."""
        opened, stored = self._where[name]
        return opened.read(stored)

    def read(
        self, name: str, shape: tuple[int, ...], source: tuple[slice, ...], linear: bool
    ) -> tuple[np.ndarray, bool]:
        """Part `source` of a tensor whose shape in the Hub's orientation is `shape`, and whether it is bfloat16.

        Raises:
            CheckpointError: the file holds another shape.
        """
        opened, stored = self._where[name]
        array, is_bfloat16 = self.stored(name)
        if linear and opened.transposed and array.ndim == 2:
            array = array.T
        if tuple(array.shape) != tuple(shape):
            raise CheckpointError(
                f"{opened.path}: tensor {stored!r} has shape {list(array.shape)}, the model needs {list(shape)}: "
                f"config.json and the weights are not of the same model."
            )
        return array[source], is_bfloat16


@dataclass
class IndexMetadata:
    """Bytes of all tensors, which some write with a fraction; nobody reads it."""

    total_size: Annotated[float, Field(strict=True, ge=0)] | None = None


@dataclass
class Index:
    """An index: the file of each tensor."""

    weight_map: Annotated[dict[Text, FileName], Field(min_length=1)]
    metadata: IndexMetadata | None = None


def _read_index(path: Path) -> dict[str, str]:
    """Tensor name -> file name."""
    try:
        return checked(Index, read_object(path), path).weight_map
    except ConfigurationError as error:
        raise CheckpointError(str(error)) from error


def _open(path: Path, allow_pickle: bool):
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    pickled = {".pdparams": PdparamsFile, ".bin": TorchFile}
    if allow_pickle and path.suffix in pickled:
        return pickled[path.suffix](path)
    raise CheckpointError(
        f"{path} is not loaded, because reading it runs pickle: convert it to safetensors, or pass allow_pickle=True, which takes "
        f"arrays alone of what is pickled ({' and '.join(pickled)})."
    )


def open_folder(
    folder: str | os.PathLike, allow_pickle: bool = False, prefixes: dict[str, str] | None = None
) -> Checkpoint:
    """The checkpoint in a local folder: safetensors, `.pdparams` or PyTorch's `.bin`, single or with an index.

    Raises:
        CheckpointError: there is none, or a shard that the index names is missing.
    """
    folder = Path(folder)
    for name in WEIGHTS:
        if (folder / name).is_file():
            return Checkpoint(folder / name, allow_pickle, prefixes)
    found = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
    raise CheckpointError(
        f"{folder} holds no weights: expected {SAFETENSORS}, {SAFETENSORS_INDEX} with its shards, model_state.pdparams or "
        f"pytorch_model.bin; found {', '.join(found) or 'nothing'}."
    )


def some(what: str, names) -> str:
    """How many names there are, and the first of them; empty for none."""
    shown = ", ".join(sorted(names)[:5])
    return f"{len(names)} {what} ({shown}{', ...' if len(names) > 5 else ''})" if names else ""
