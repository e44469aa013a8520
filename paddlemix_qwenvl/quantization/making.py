"""From a model's folder to the folder of the quantised one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.fields import read_object
from paddlemix_qwenvl.files import whole_file, write_json
from paddlemix_qwenvl.models.unsupported import QUANTIZATION
from paddlemix_qwenvl.quantization.methods import method_of
from paddlemix_qwenvl.quantization.record import Record
from paddlemix_qwenvl.quantization.source import Source
from paddlemix_qwenvl.quantization.writing import SHARD_BYTES, Progress, Quantiser, write_weights


@dataclass(frozen=True)
class Listener:
    """Who is told how far the work is.

    Attributes:
        says: gets a line at each stage.
        progress: gets what is done of a stage, and all of it.
    """

    says: Callable[[str], None] = lambda line: None
    progress: Progress = lambda done, total: None


def quantize(
    model_path: str,
    output_path: str | Path,
    method: str,
    group_size: int | None = None,
    listener: Listener = Listener(),
    shard_bytes: int = SHARD_BYTES,
    **source,
) -> Path:
    """Write a model with the weights of its language model's blocks in fewer bits.

    What was written whole by an earlier call, which was interrupted, is kept. The weights are read tensor by tensor.

    Args:
        model_path: a folder, a name, or "demo".
        output_path: a new folder, or one that the same call has begun.
        method: one of `METHODS`.
        group_size: inputs that share a scale, of "awq" and "rtn"; None for 128.
        shard_bytes: of a weight file, at most.
        source: where a name is looked up, as in `from_pretrained`; `allow_pickle`.

    Returns:
        The folder.

    Raises:
        ConfigurationError: arguments that cannot be, a folder that is not empty, a model that is quantised already.
        CheckpointError, DownloadError: weights that cannot be had or used.
    """
    how, folder = method_of(method, group_size), Path(output_path)
    opened = Source.open(model_path, **source)
    quantiser = Quantiser(opened, how)
    quantiser.check()
    settings = {"method": method, "config": how.settings(), "source": opened.identity(), "shard_bytes": shard_bytes}
    record = Record.open(folder, settings)
    listener.says("writing the weights")
    write_weights(quantiser, record, listener.progress, shard_bytes)
    _write_others(opened, quantiser, folder)
    return folder


def _write_others(source: Source, quantiser: Quantiser, folder: Path) -> None:
    """Tokenizer, processor and settings as they are; at last the config, without which a folder is no model."""
    for path in source.other_files:
        with whole_file(folder / path.name) as unfinished:
            shutil.copyfile(path, unfinished)
    config = read_object(source.folder / hub.CONFIG)
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    for part in parts:
        part |= {name: quantiser.dtype for name in ("dtype", "torch_dtype") if name in part}
    if "dtype" not in config:
        config["torch_dtype"] = quantiser.dtype
    write_json(folder / hub.CONFIG, {**config, QUANTIZATION: quantiser.method.settings()}, ensure_ascii=False)
