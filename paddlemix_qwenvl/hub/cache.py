"""What a folder of a cache holds."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath

from paddlemix_qwenvl.errors import CheckpointError

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
WEIGHTS = (".safetensors", ".bin", ".pdparams")


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a config and weights, of several files all that one of its indexes names."""
    if not os.path.isfile(folder / CONFIG):
        return False
    indexes = [*folder.glob("*.index.json")]
    if not indexes:
        return any(file.suffix in WEIGHTS for file in folder.glob("*"))
    return any(all(os.path.isfile(folder / name) for name in _named_or_none(index)) for index in indexes)


def has_files(folder: Path) -> bool:
    """Whether a folder is there and not empty."""
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def files_of_index(path: Path) -> list[str]:
    """The weight files that an index names, each once.

    Raises:
        CheckpointError: it is no index, or names something outside its folder.
    """
    try:
        names = sorted({*json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no index of weight files: give force_download=True to fetch it anew."
        ) from error
    for name in names:
        if not isinstance(name, str) or "\\" in name or name in ("", "..") or PurePosixPath(name).name != name:
            raise CheckpointError(f"{path} names the weight file {name!r}: expected the name of a file beside it.")
    return names


def _named_or_none(index: Path) -> list[str]:
    try:
        return files_of_index(index)
    except (CheckpointError, OSError):
        return [""]  # a folder, never a file
