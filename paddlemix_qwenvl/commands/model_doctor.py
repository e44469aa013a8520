"""What is wrong with a model's folder: `paddlemix-qwenvl doctor --model_path`. Weights are mapped and read block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.commands.finding import Finding
from paddlemix_qwenvl.environment import cpu_count
from paddlemix_qwenvl.errors import CheckpointError, QwenVLError
from paddlemix_qwenvl.models.auto import find_family
from paddlemix_qwenvl.models.family import family_of, identity_of
from paddlemix_qwenvl.models.generation_config import GENERATION_CONFIG, read_generation_file
from paddlemix_qwenvl.weights.casts import BLOCK
from paddlemix_qwenvl.weights.checkpoint import Checkpoint, open_folder
from paddlemix_qwenvl.weights.loading import name_faults, named_pieces, optional_names

SHOWN = 20  # findings of one kind
_AGAIN = "mend the file, or download it again"
_ONE_MODEL = "take config.json and all weight files from one model"


def examine(model_path: str) -> Iterator[Finding]:
    """Look at a folder's settings files, at the names and shapes of its weights, and at their numbers; a finding a fault."""
    folder = Path(hub.locate(model_path))
    if not folder.is_dir():
        yield Finding("model", f"{model_path} is not a folder", "give the folder of a model, or demo", fatal=True)
        return
    family = family_of(identity_of(folder))
    if family is None:
        yield from _tried(hub.CONFIG, lambda: find_family(folder), [])
        return
    config: list = []
    yield from _tried(hub.CONFIG, lambda: family.load("config").from_pretrained(folder), config)
    if (folder / GENERATION_CONFIG).is_file():
        yield from _tried(GENERATION_CONFIG, lambda: read_generation_file(folder / GENERATION_CONFIG), [])
    yield from _tried("tokenizer, processor", lambda: family.load("processor").from_pretrained(str(folder)), [])
    model_class, opened = family.load("model"), []
    yield from _tried("weights", lambda: open_folder(folder, prefixes=model_class.weight_prefixes), opened, quiet=True)
    if config and opened:
        yield from examine_weights(model_class.without_memory(config[0], config[0].dtype), opened[0])


def _tried(subject: str, call: Callable[[], Any], results: list, quiet: bool = False) -> Iterator[Finding]:
    """The finding on a call; what it returns is added to `results`."""
    try:
        results.append(call())
    except QwenVLError as error:
        yield Finding(subject, str(error), _AGAIN, fatal=True)
    except Exception as error:  # whatever the host's readers raise
        yield Finding(subject, f"cannot be read ({type(error).__name__}: {error})", _AGAIN, fatal=True)
    else:
        if not quiet:
            yield Finding(subject, "can be read")


def examine_weights(model, checkpoint: Checkpoint) -> Iterator[Finding]:
    """Findings on a checkpoint's names and shapes against a model's, and on numbers that are none."""
    pieces = dict(named_pieces(model))
    faults = [
        Finding("weights", fault, _ONE_MODEL, fatal=True)
        for fault in name_faults(pieces, checkpoint, optional_names(model))
    ]
    there = {name: piece for name, piece in pieces.items() if name in checkpoint.names()}
    try:
        checkpoint.settle_layout(there.items())
    except CheckpointError as error:
        yield Finding("weights", str(error), _ONE_MODEL, fatal=True)
        return
    for name, piece in sorted(there.items()):
        try:
            checkpoint.read(name, piece.shape, piece.source, piece.linear)
        except CheckpointError as error:
            faults.append(Finding("weights", str(error), _ONE_MODEL, fatal=True))
    names = sorted(checkpoint.names())
    with ThreadPoolExecutor(cpu_count()) as pool:
        for name, count in zip(names, pool.map(lambda name: count_not_finite(checkpoint, name), names), strict=True):
            if count:
                found = f"{checkpoint.file_of(name)}: tensor {name!r} holds {count} numbers that are NaN or infinite"
                remedy = "download the file again, and if it is the same, ask who saved the model"
                faults.append(Finding("weights", found, remedy, fatal=True))
    yield from faults[:SHOWN]
    if len(faults) > SHOWN:
        yield Finding("weights", f"and {len(faults) - SHOWN} faults more", _ONE_MODEL, fatal=True)
    if not faults:
        yield Finding("weights", f"{len(names)} tensors, names and shapes are the config's, all numbers are finite")


def count_not_finite(checkpoint: Checkpoint, name: str) -> int:
    """NaN and infinities in a tensor, as it lies in its file."""
    try:
        values, is_bfloat16 = checkpoint.stored(name)
    except CheckpointError:
        return 0  # which its shape has told
    if not is_bfloat16 and not np.issubdtype(values.dtype, np.floating):
        return 0
    values, count = np.atleast_1d(values), 0
    step = max(1, BLOCK // max(1, values[:1].size))
    for start in range(0, len(values), step):
        block = values[start : start + step]
        finite = (block & 0x7F80) != 0x7F80 if is_bfloat16 else np.isfinite(block)
        count += block.size - int(np.count_nonzero(finite))
        checkpoint.release(name)
    return count
