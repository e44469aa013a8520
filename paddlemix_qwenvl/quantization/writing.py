"""The weights of a quantised model, file by file; what is there from an earlier run is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from paddlemix_qwenvl.dtypes import SAFETENSORS_DTYPES
from paddlemix_qwenvl.errors import CheckpointError, ConfigurationError
from paddlemix_qwenvl.files import whole_file
from paddlemix_qwenvl.quantization.methods import Made, Method
from paddlemix_qwenvl.quantization.record import Record
from paddlemix_qwenvl.quantization.scales import Scales
from paddlemix_qwenvl.quantization.source import Source
from paddlemix_qwenvl.weights.casts import as_tensor, cast
from paddlemix_qwenvl.weights.saving import Entry, dealt_out, shard_names, write_index, write_safetensors

SHARD_BYTES = 5 * 1024**3
Progress = Callable[[int, int], None]


@dataclass
class Quantiser:
    """Makes the tensors that are written, one module at a time.

    Attributes:
        scales: that are folded into the weights first.
        errors: relative Frobenius error of each module that was made.
    """

    source: Source
    method: Method
    scales: Scales | None = None
    errors: dict[str, float] = field(default_factory=dict)
    _made: tuple[str, Made] | None = None

    @property
    def dtype(self) -> str:
        """Of the numbers that are not quantised."""
        return self.method.dtype or self.source.dtype

    def check(self) -> None:
        """Raises ConfigurationError for weights that cannot be quantised so."""
        shapes = {module: self.source.pieces[f"{module}.weight"].shape for module in sorted(self.source.modules)}
        for module, shape in shapes.items():
            if misfit := self.method.misfit(shape):
                fits = [size for size in (128, 64, 32) if all(inputs % size == 0 for _, inputs in shapes.values())]
                other = f"--group_size {fits[0]}, or --method int8 or fp8" if fits else "--method int8 or fp8"
                raise ConfigurationError(f"{module} of {list(shape)} cannot be quantised: {misfit}. Give {other}.")

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """What is written, by name."""
        for name, piece in self.source.pieces.items():
            module, _, leaf = name.rpartition(".")
            if leaf != "weight" or module not in self.source.modules:
                yield name, Entry(SAFETENSORS_DTYPES[self.dtype], piece.shape, partial(self._plain, name))
                continue
            for tensor, (dtype, shape) in self.method.tensors(piece.shape, self.dtype).items():
                yield f"{module}.{tensor}", Entry(dtype, shape, partial(self._quantised, module, tensor))

    def _plain(self, name: str) -> np.ndarray:
        if self.scales is None or not self.scales.touches(name):
            return self._checked(name, self.source.values(name, self.dtype))
        values = self.scales.applied(name, self.source.values(name, "float32"))
        with np.errstate(over="ignore"):
            return self._checked(name, cast(values, False, self.dtype))

    def _checked(self, name: str, values: np.ndarray) -> np.ndarray:
        """Values of a tensor that float16 has, where they are in that."""
        if values.dtype == np.float16 and not np.isfinite(values).all():
            raise CheckpointError(f"{name} has numbers that float16 has not: quantise with --method rtn, int8 or fp8.")
        return values

    def _quantised(self, module: str, tensor: str) -> np.ndarray:
        if self._made is None or self._made[0] != module:
            self._made = None  # gives its memory back first
            self._made = module, self._make(module)
        return self._made[1][tensor]

    def _make(self, module: str) -> Made:
        name = f"{module}.weight"
        weight = self.source.values(name, "float32")
        if not np.isfinite(weight).all():
            raise CheckpointError(f"{name} has numbers that are not finite: download it again.")
        folded = weight if self.scales is None else self.scales.applied(name, weight)
        with np.errstate(over="ignore"):
            narrow = self._checked(name, cast(folded, False, self.dtype))
        if self.scales is None:
            made, values = self.method.made(as_tensor(narrow))
            values = values.numpy()
        else:
            made, values = self.method.laid(self.scales.rounded(module))
            values = self.scales.undone(module, values.numpy())
        self.errors[module] = float(np.linalg.norm(values - weight) / max(np.linalg.norm(weight), 1e-30))
        return made


def is_written(quantiser: Quantiser, record: Record, shard_bytes: int = SHARD_BYTES) -> bool:
    """Whether all files of weights are there."""
    return all(map(record.has, shard_names(len(dealt_out(quantiser.entries(), shard_bytes)))))


def write_weights(quantiser: Quantiser, record: Record, progress: Progress, shard_bytes: int = SHARD_BYTES) -> None:
    """All files of weights that are not there yet, and their index."""
    folder, shards = record.path.parent, dealt_out(quantiser.entries(), shard_bytes)
    done, total = 0, sum(entry.bytes for shard in shards for entry in shard.values())

    def counted(entry: Entry) -> Entry:
        def values() -> np.ndarray:
            nonlocal done
            found = entry.values()
            done += entry.bytes
            progress(done, total)
            return found

        return replace(entry, values=values)

    for name, shard in zip(shard_names(len(shards)), shards, strict=True):
        if record.has(name):
            done += sum(entry.bytes for entry in shard.values())
            progress(done, total)
            continue
        quantiser.errors = {}
        with whole_file(folder / name) as unfinished:
            write_safetensors(unfinished, {name: counted(entry) for name, entry in shard.items()})
        record.files[name] = quantiser.errors
        record.save()
    write_index(folder, shards)
