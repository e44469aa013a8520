"""From a model's folder to the folder of the quantised one."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.fields import read_object
from paddlemix_qwenvl.files import whole_file, write_json
from paddlemix_qwenvl.models.unsupported import QUANTIZATION
from paddlemix_qwenvl.quantization.calibration import Calibration
from paddlemix_qwenvl.quantization.methods import method_of
from paddlemix_qwenvl.quantization.record import open_record
from paddlemix_qwenvl.quantization.report import Likeness, Report
from paddlemix_qwenvl.quantization.running import answer_logits
from paddlemix_qwenvl.quantization.scales import Scales
from paddlemix_qwenvl.quantization.search import ROWS
from paddlemix_qwenvl.quantization.source import Source
from paddlemix_qwenvl.quantization.writing import SHARD_BYTES, Quantiser, is_written, write_weights

SCALES = "awq_scales"


class Listener:
    """Who is told how far the work is; this one does not listen."""

    def says(self, line: str) -> None:
        """A stage begins."""

    def progress(self, done: int, total: int) -> None:
        """So much of the stage is done, of all of it."""


NOBODY = Listener()


def quantize(
    model_path: str,
    output_path: str | Path,
    method: str,
    calibration: str | Path | None = None,
    group_size: int | None = None,
    listener: Listener = NOBODY,
    shard_bytes: int = SHARD_BYTES,
    **source,
) -> Report:
    """Write a model with the weights of its language model's blocks in fewer bits, and a report of what that loses.

    What was written whole by an earlier call, which was interrupted, is kept. A tensor at a time is in memory, and with a
    calibration a block at a time in float32.

    Args:
        model_path: a folder, a name, or "demo".
        output_path: a new folder, or one that the same call has begun.
        method: "awq" (AutoAWQ's files) or "rtn" (compressed-tensors') for 4 bits in groups, "int8" or "fp8" for a scale an output.
        calibration: as in `Calibration.read`. "awq" needs it; the others are tried on it before and after.
        group_size: inputs that share a scale, of "awq" and "rtn"; None for 128, or less in a narrow model (`method_of`).
        shard_bytes: of a weight file, at most.
        source: where a name is looked up, as in `from_pretrained`; `allow_pickle`.

    Raises:
        ConfigurationError: arguments that cannot be, a folder that is not empty, a model that is quantised already.
        CheckpointError, DownloadError: weights that cannot be had or used.
    """
    method_of(method, group_size)  # raises before anything is read
    folder = Path(output_path)
    if method == "awq" and calibration is None:
        raise ConfigurationError(
            "method awq goes by what the model computes: give conversations, pictures or texts as it will see them as "
            "--calibration, or take --method rtn."
        )
    read = None if calibration is None else Calibration.read(calibration)
    opened = Source.open(model_path, **source)
    if opened.config.quantization:
        raise ConfigurationError(
            f"{model_path} is quantised already, by {opened.config.quantization.method}: give the model that it was made of."
        )
    how = method_of(method, group_size, opened.inputs)
    quantiser = Quantiser(opened, how)
    quantiser.check()
    samples = None if read is None else read.samples(opened)
    settings = {"method": method, "config": how.settings(), "source": opened.identity(), "shard_bytes": shard_bytes}
    if method == "awq":
        settings["calibration"] = read.sha256
    with open_record(folder, settings) as record:
        watch = {}
        if method == "awq" and not is_written(quantiser, record, shard_bytes):
            quantiser.scales = Scales(folder / SCALES)
            tokens = sum(len(each.prompt.token_ids) for each in samples)
            every = max(1, tokens // ROWS)
            watch = {"watch": partial(quantiser.scales.watch, group_size=how.group_size, every=every)}
        before = _logits("running the model", opened, samples, listener, **watch)
        listener.says("writing the weights")
        write_weights(quantiser, record, listener.progress, shard_bytes)
        _write_others(opened, quantiser, folder)
        shutil.rmtree(folder / SCALES, ignore_errors=True)
        after = _logits("running the quantised model", Source.open(folder), samples, listener)
        likeness = None if samples is None else Likeness.of(before, after)
        report = Report(f"{Path(hub.locate(model_path)).name}, quantised by {method}", record.errors(), likeness)
        report.write(folder)
        return report


def _logits(stage: str, source: Source, samples: list | None, listener: Listener, **watch) -> np.ndarray | None:
    if samples is None:
        return None
    listener.says(stage)
    return answer_logits(source, samples, listener.progress, **watch).numpy()


def _write_others(source: Source, quantiser: Quantiser, folder: Path) -> None:
    """Tokenizer, processor and settings as they are; at last the config, without which a folder is no model."""
    for path in source.other_files:
        with whole_file(folder / path.name) as unfinished:
            shutil.copyfile(path, unfinished)
    config = _in_dtype(read_object(source.folder / hub.CONFIG), quantiser.dtype)
    if "dtype" not in config:
        config["torch_dtype"] = quantiser.dtype
    write_json(folder / hub.CONFIG, {**config, QUANTIZATION: quantiser.method.settings()}, ensure_ascii=False)


def _in_dtype(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """A config.json that names the dtype, where and however it does so."""
    flags = {"bf16": dtype == "bfloat16", "fp16": dtype == "float16", "fp32": dtype == "float32"}
    names = dict.fromkeys(("dtype", "torch_dtype"), dtype) | flags
    found = {name: _in_dtype(value, dtype) if isinstance(value, dict) else value for name, value in config.items()}
    return found | {name: value for name, value in names.items() if name in config}
