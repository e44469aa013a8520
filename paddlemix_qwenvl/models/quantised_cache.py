"""What `quantization` makes of a checkpoint, kept on disk so that the next load reads it.

An entry is a folder with one rank's part of the weights, as `save_pretrained` writes them. It belongs to a source folder, a
config, a quantization, a dtype, a kind of device and a rank, and is taken while the source's files have the sizes and times that
they had; then another takes its place. It is written under another name and renamed, by one process at a time, so that there is
none or a whole one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import paddle
from filelock import FileLock, Timeout

from paddlemix_qwenvl.errors import CheckpointError, ConfigurationError, QwenVLError
from paddlemix_qwenvl.fields import read_object
from paddlemix_qwenvl.files import whole_folder, write_json
from paddlemix_qwenvl.hub.cache import WEIGHTS
from paddlemix_qwenvl.layers.embedding import VocabParallelEmbedding
from paddlemix_qwenvl.layers.formats import Int8
from paddlemix_qwenvl.layers.parameter import of_own_part
from paddlemix_qwenvl.models.laying import lay
from paddlemix_qwenvl.models.quantization import read
from paddlemix_qwenvl.models.unsupported import QUANTIZATION
from paddlemix_qwenvl.parallel import tensor_parallel
from paddlemix_qwenvl.progress import OnProgress
from paddlemix_qwenvl.weights.checkpoint import Checkpoint, open_folder
from paddlemix_qwenvl.weights.loading import Plan, fill, load_weights, plan
from paddlemix_qwenvl.weights.packing import quantization_config
from paddlemix_qwenvl.weights.saving import save_weights, saved_bytes

VARIABLE = "QWENVL_CACHE"
_VERSION = 2  # of what is written, and of the numbers that quantising gives
_RECORD = "source.json"
_LOG = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """Where all entries lie; None where the variable says "off"."""
    given = os.environ.get(VARIABLE, "").strip()
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "paddlemix_qwenvl")
    return None if given == "off" else Path(given or default).expanduser() / "quantised"


def load_quantised(
    make: Callable[[], paddle.nn.Layer],
    open_source: Callable[[], Checkpoint],
    folder: Path,
    config,
    quantization: str,
    on_progress: OnProgress | None = None,
) -> paddle.nn.Layer:
    """A model whose weights are quantised as they are read, or read as they were kept.

    Args:
        make: gives the model of this `config`, without memory yet.
        open_source: gives the checkpoint in `folder`.
        on_progress: as in `load_weights`.

    Raises:
        CheckpointError: as `load_weights`.
    """
    root = cache_folder()
    entry = Entry(root, folder, config, quantization) if root else None
    if entry and (kept := entry.opened(make)):
        model, checkpoint, planned = kept
        fill(planned, checkpoint, model.quantized_as_read(quantization), on_progress=on_progress)
        return model
    checkpoint, model = open_source(), make()
    tensor_parallel().meet()
    load_weights(model, checkpoint, config.dtype, model.quantized_as_read(quantization), on_progress)
    if entry:
        entry.keep(model)
    return model


class Entry:
    """This rank's part of a checkpoint, quantised.

    Args:
        root: of all entries.
        folder: the checkpoint's.
        config: of the model.
        quantization: as in `from_pretrained`.
    """

    def __init__(self, root: Path, folder: Path, config, quantization: str):
        parallel, self._folder, self._dtype, self._name = tensor_parallel(), folder, config.dtype, quantization
        device = paddle.get_device().partition(":")[0]
        what = [os.path.realpath(folder), _of_the_weights(config), config.dtype, quantization, device]
        content = json.dumps([*what, parallel.rank, parallel.degree], sort_keys=True, default=str)
        self._path = root / f"{folder.name}-{quantization}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
        self._weights = self._path / "weights"

    def opened(self, make: Callable[[], paddle.nn.Layer]) -> tuple[paddle.nn.Layer, Checkpoint, Plan] | None:
        """A model, the checkpoint that was kept, and how this fills that; None where one of the ranks has none."""
        found = None
        if self._is_of_the_source():
            try:
                found = self._opened(make())
            except (QwenVLError, OSError) as error:
                _LOG.warning("%s cannot be read and is made anew: %s", self._weights, str(error).splitlines()[0])
                with contextlib.suppress(OSError):
                    (self._weights / _RECORD).unlink()
        parallel = tensor_parallel()
        parallel.meet()
        return found if parallel.least(found is not None) else None

    def _opened(self, model) -> tuple[paddle.nn.Layer, Checkpoint, Plan]:
        path = self._weights / _RECORD
        checkpoint, settings = open_folder(self._weights), read_object(path)[QUANTIZATION]
        with own_part(model):
            lay(model, read(settings, str(path)), self._dtype)
            return model, checkpoint, plan(model, checkpoint, self._dtype)

    def keep(self, model) -> None:
        """Write what a model holds; why it cannot be is said in a line."""
        if Int8(arranged=True) in model.formats():  # which files do not have
            return
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            with FileLock(self._path / "lock", timeout=0):
                if not self._is_of_the_source():
                    self._write(model)
        except Timeout:  # another process is writing it
            return
        except (OSError, NotImplementedError, CheckpointError) as error:
            _LOG.warning("The %s weights are not kept for the next load: %s", self._name, error)

    def _write(self, model) -> None:
        for old in self._path.iterdir():  # of another state of the source, or of a process that was cut
            if old.is_dir():
                shutil.rmtree(old)
        with own_part(model):
            needed, free = saved_bytes(model), shutil.disk_usage(self._path).free
            if needed > free:
                raise OSError(
                    f"they take {_size(needed)} and {self._path} has {_size(free)} left ({VARIABLE} names another "
                    f"folder)"
                )
            with whole_folder(self._weights) as new:
                save_weights(model, new)
                write_json(new / _RECORD, {QUANTIZATION: quantization_config(model), **self._state(new)})
        _LOG.warning(
            "The %s weights are kept for the next load, %s in %s (%s=off keeps none).",
            *(self._name, _size(needed), self._path, VARIABLE),
        )

    def _is_of_the_source(self) -> bool:
        """Whether there is an entry, and all of it, of the source's files as they are now."""
        path = self._weights / _RECORD
        try:
            said = read_object(path) if path.is_file() else {}
        except ConfigurationError:
            return False
        return isinstance(said.pop(QUANTIZATION, None), dict) and said == self._state(self._weights)

    def _state(self, kept: Path) -> dict:
        """What tells files from others: of the source their times too, of those that were `kept` the sizes."""
        source = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in _weight_files(self._folder)}
        return {
            "version": _VERSION,
            "source": source,
            "kept": {path.name: path.stat().st_size for path in _weight_files(kept)},
        }


def _of_the_weights(config) -> dict:
    """What a config says of a model's weights, the same whichever host's it is."""
    names = {*(field.name for field in fields(config.model_fields)), *config.parts, "tie_word_embeddings"}
    return {name: value for name, value in config.to_dict().items() if name in names}


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _weight_files(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if path.is_file())
    return sorted(path for path in files if path.suffix in WEIGHTS or path.name.endswith(".index.json"))


@contextlib.contextmanager
def own_part(model) -> Iterator[None]:
    """The model as one whose checkpoint holds this rank's part alone, and an embedding as the head that it is tied to."""
    held = [*model.sublayers(), *model.parameters()]
    before = {id(holder.pieces): (holder.pieces, [*holder.pieces]) for holder in held if hasattr(holder, "pieces")}
    embeddings = {id(layer.pieces) for layer in held if isinstance(layer, VocabParallelEmbedding)}
    for key, (pieces, whole) in before.items():
        pieces[:] = of_own_part(whole, key in embeddings)
    try:
        yield
    finally:
        for pieces, whole in before.values():
            pieces[:] = whole
