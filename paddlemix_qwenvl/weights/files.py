"""The formats of weight files: safetensors, and the pickled ones of Paddle and PyTorch."""

from __future__ import annotations

import json
import math
import mmap
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Annotated
from zipfile import BadZipFile, ZipFile

import numpy as np
from pydantic import Field

from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.fields import Text, checked

Size = Annotated[int, Field(strict=True, ge=0, le=2**62)]

# bfloat16 is kept as its 16 bits: NumPy has no such type, and Paddle takes uint16 for it. float8 is kept as bytes that are no
# numbers, so that nobody takes them for some.
NUMPY = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I64": np.int64,
    "I32": np.int32,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "F8_E4M3": np.dtype("V1"),
}


@dataclass
class _Entry:
    """A tensor in a safetensors header; offsets count bytes from the header's end."""

    dtype: Text
    shape: list[Size]
    data_offsets: Annotated[list[Size], Field(min_length=2, max_length=2)]


@dataclass
class _Header:
    tensors: dict[str, _Entry]


class SafetensorsFile:
    """A mapped safetensors file (format: huggingface.co/docs/safetensors). The library itself cannot give bfloat16 to NumPy.

    Attributes:
        tensors: name -> (dtype, shape, first byte, last-plus-one byte).
        transposed: the file holds Linear weights as `[in, out]`, as Paddle does; None if it does not say.

    Raises:
        CheckpointError: no safetensors file, or a truncated one.
    """

    _LAYOUTS = {"pt": False, "np": True, "pd": True}  # noqa: RUF012

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = path.open("rb")
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            start = 8 + int.from_bytes(self._map[:8], "little")
            header = json.loads(self._map[8:start])
            metadata = header.pop("__metadata__", None) or {}
            self.transposed = self._LAYOUTS.get(metadata.get("format"))
            entries = checked(_Header, {"tensors": header}, path).tensors
        except (OSError, ValueError, OverflowError, AttributeError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{path} is not a readable safetensors file ({error}): download it again.") from error
        self.tensors = {
            name: (entry.dtype, tuple(entry.shape), *(start + offset for offset in entry.data_offsets))
            for name, entry in entries.items()
        }
        for name, (_, _, _, last) in self.tensors.items():
            if last > len(self._map):
                raise CheckpointError(
                    f"{path} is truncated: tensor {name!r} ends at byte {last} of {len(self._map)}. Download it again."
                )

    def read(self, name: str) -> tuple[np.ndarray, bool]:
        """The mapped tensor, and whether its numbers are bfloat16."""
        dtype, shape, first, last = self.tensors[name]
        if dtype not in NUMPY:
            raise CheckpointError(
                f"{self.path}: tensor {name!r} is {dtype}, which cannot be read: save it as BF16 or F32."
            )
        count = math.prod(shape)
        if count * np.dtype(NUMPY[dtype]).itemsize != last - first:
            raise CheckpointError(
                f"{self.path}: tensor {name!r} of {dtype} {list(shape)} has {last - first} bytes. Download it again."
            )
        return np.frombuffer(self._map, NUMPY[dtype], count, first).reshape(shape), dtype == "BF16"

    @cached_property
    def _own(self) -> mmap.mmap | None:
        """The file once more, as memory that may be written to: the file keeps what it has. None where the system does not promise
        as much."""
        try:
            return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError:
            return None

    def in_place(self, parts: list[np.ndarray]) -> np.ndarray | None:
        """Arrays that were read as one that may be written to, `[bytes]`, if they follow one upon the other in the file."""
        start = np.frombuffer(self._map, np.uint8).ctypes.data
        firsts = [part.ctypes.data - start for part in parts]
        lasts = [first + part.nbytes for first, part in zip(firsts, parts, strict=True)]
        if not all(part.flags.c_contiguous for part in parts) or firsts[1:] != lasts[:-1]:
            return None
        if not 0 <= firsts[0] < lasts[-1] <= len(self._map) or self._own is None:
            return None
        return np.frombuffer(self._own, np.uint8, lasts[-1] - firsts[0], firsts[0])

    def release(self, name: str) -> None:
        """Give the pages of a tensor back."""
        _, _, first, last = self.tensors[name]
        _give_back(self._map, first, last)


def _give_back(mapped: mmap.mmap, first: int, last: int) -> None:
    """Pages of a mapped file, which would count as this process's memory; they are mapped again when read."""
    if hasattr(mmap, "MADV_DONTNEED"):
        page = first - first % mmap.PAGESIZE
        mapped.madvise(mmap.MADV_DONTNEED, page, last - page)


class PdparamsFile:
    """A `.pdparams` file: a pickle of arrays by name. It may name arrays only, so none of its code runs.

    Source: `paddle.save` and `_pack_loaded_dict` of Paddle 3.3.1.
    """

    transposed = True

    def __init__(self, path: Path):
        self.path = path
        try:
            with path.open("rb") as file:
                state = _ArrayUnpickler(file).load()
            for name, parts in state.pop("UnpackBigParamInfor@@", {}).items():  # arrays of over 1 GiB
                flat = np.concatenate([state.pop(part) for part in parts["slices"]])
                state[name] = flat.reshape(parts["OriginShape"])
            arrays = {name: value[-1] if isinstance(value, tuple) else value for name, value in state.items()}
            self.tensors = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
        except Exception as error:  # pickle raises whatever the file makes it raise
            raise CheckpointError(f"{path} is not a readable .pdparams file ({error}): download it again.") from error

    def read(self, name: str) -> tuple[np.ndarray, bool]:
        """The tensor, and whether its numbers are bfloat16."""
        array = self.tensors[name]
        return array, array.dtype == np.uint16

    def release(self, name: str) -> None:
        """Nothing: the whole file is in memory."""


class _ArrayUnpickler(pickle.Unpickler):
    """Makes NumPy's arrays of what Paddle pickled, and refuses everything that is no array."""

    def find_class(self, module: str, name: str):
        """What the pickle may name, whichever module it says."""
        made = {
            "OrderedDict": OrderedDict,
            "tuple": tuple,
            "ndarray": np.ndarray,
            "dtype": np.dtype,
            "_reconstruct": np.zeros(()).__reduce__()[0],
            "encode": lambda text, _: text.encode("latin1"),  # _codecs.encode: bytes in protocol 2
            "eval": lambda name, values: values[name],  # builtins.eval, which Paddle means this by
        }
        if name not in made:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no array")
        return made[name]


@dataclass(frozen=True)
class _Storage:
    """Numbers in a PyTorch file: their safetensors dtype and the name of the archive's entry."""

    dtype: str
    entry: str


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset and strides count numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def count(self) -> int:
        """Numbers from its first to its last one."""
        return (
            1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)) if math.prod(self.shape) else 0
        )


class TorchFile:
    """A mapped `.bin` file of PyTorch 1.6 or later: an archive of a pickle and, uncompressed, the tensors' numbers.

    The pickle may name tensors and dictionaries only, so none of its code runs; anything else in it is an error.

    Source: `torch.save` and `torch._weights_only_unpickler` of PyTorch.

    Raises:
        CheckpointError: no such archive, or one that holds more than tensors.
    """

    transposed = False

    def __init__(self, path: Path):
        self.path = path
        try:
            with ZipFile(path) as archive, path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
                self._entries = {info.filename: self._numbers(info) for info in archive.infolist()}
                state = _TensorUnpickler(archive.read(pickled), pickled.removesuffix(".pkl")).load()
                self.tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, _Tensor)}
        except (
            BadZipFile,
            pickle.UnpicklingError,
            OSError,
            EOFError,
            ValueError,
            AttributeError,
            LookupError,
        ) as error:
            raise CheckpointError(f"{path} is not a readable PyTorch file ({error}): download it again.") from error

    def _numbers(self, info) -> tuple[int, int]:
        """First byte and number of bytes of an archive's entry; its own header is 30 bytes, its name and extra fields."""
        name, extra = (int.from_bytes(self._map[info.header_offset + at :][:2], "little") for at in (26, 28))
        return info.header_offset + 30 + name + extra, info.file_size if info.compress_type == 0 else 0

    def read(self, name: str) -> tuple[np.ndarray, bool]:
        """The mapped tensor, and whether its numbers are bfloat16."""
        tensor = self.tensors[name]
        dtype = np.dtype(NUMPY[tensor.storage.dtype])
        start, size = self._entries.get(tensor.storage.entry, (0, 0))
        if (tensor.offset + tensor.count()) * dtype.itemsize > size:
            raise CheckpointError(
                f"{self.path}: tensor {name!r} of {list(tensor.shape)} is not all there. Download it again."
            )
        flat = np.frombuffer(self._map, dtype, tensor.count(), start + tensor.offset * dtype.itemsize)
        strides = [stride * dtype.itemsize for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False), dtype == np.uint16

    def release(self, name: str) -> None:
        """Give the pages of a tensor's storage back."""
        start, size = self._entries[self.tensors[name].storage.entry]
        _give_back(self._map, start, start + size)


class _TensorUnpickler(pickle.Unpickler):
    """Makes `_Tensor`s of what PyTorch pickled, and refuses everything that is no tensor."""

    _STORAGES = {  # noqa: RUF012
        "DoubleStorage": "F64",
        "FloatStorage": "F32",
        "HalfStorage": "F16",
        "BFloat16Storage": "BF16",
        "LongStorage": "I64",
        "IntStorage": "I32",
        "CharStorage": "I8",
        "ByteStorage": "U8",
        "BoolStorage": "BOOL",
    }

    def __init__(self, content: bytes, folder: str):
        super().__init__(BytesIO(content))
        self._folder = folder

    def find_class(self, module: str, name: str):
        """What the pickle may name."""
        if module == "torch" and name in self._STORAGES:
            return self._STORAGES[name]
        made = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: _Tensor(
                storage, offset, shape, strides
            ),
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if (module, name) not in made:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no tensor")
        return made[module, name]

    def persistent_load(self, saved) -> _Storage:
        """A storage: its dtype and where its numbers are."""
        _, dtype, key, *_ = saved
        return _Storage(dtype, f"{self._folder}/{key}")
