"""What a folder is being made of, how, and how far that is: so that work that was interrupted goes on."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.fields import checked, read_object
from paddlemix_qwenvl.files import remove_unfinished, write_json

RECORD = "quantization_record.json"


@dataclass
class _Content:
    settings: dict[str, Any]
    files: dict[str, dict[str, float]]


@dataclass
class Record:
    """What a folder is being made of and how, and how far that is.

    Attributes:
        settings: of the work; a folder that was begun with others is not gone on with.
        files: each weight file that is written -> the relative error of each module in it.
    """

    path: Path
    settings: dict[str, Any]
    files: dict[str, dict[str, float]] = field(default_factory=dict)

    def save(self) -> None:
        """Write it."""
        write_json(self.path, {"settings": self.settings, "files": self.files})

    def has(self, file: str) -> bool:
        """Whether a weight file is written."""
        return file in self.files and (self.path.parent / file).is_file()

    def errors(self) -> dict[str, float]:
        """The relative error of each module."""
        return {name: error for errors in self.files.values() for name, error in errors.items()}


@contextmanager
def open_record(folder: Path, settings: dict[str, Any]) -> Iterator[Record]:
    """The record of a folder, which is made if there is none; within, no other process has it.

    Raises:
        ConfigurationError: the folder holds anything else, or the beginning of other work, or another process is at it.
    """
    path = folder / RECORD
    if not path.is_file() and (folder.is_file() or (folder.is_dir() and any(folder.iterdir()))):
        raise ConfigurationError(f"{folder} is not empty: give a new folder as --output_path.")
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(f"{folder} is being written by another process: wait for it.") from error
        remove_unfinished(folder)
        yield _read(path, settings)
    finally:
        os.close(handle)


def _read(path: Path, settings: dict[str, Any]) -> Record:
    if not path.is_file():
        record = Record(path, settings)
        record.save()
        return record
    found = read_object(path)
    files = checked(_Content, found, path).files
    if found["settings"] != settings:
        raise ConfigurationError(
            f"{path.parent} holds a model that was quantised otherwise, as its {RECORD} says: delete it, or give another "
            f"--output_path."
        )
    return Record(path, settings, files)
