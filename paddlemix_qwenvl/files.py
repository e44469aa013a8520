"""Files and folders that are written whole or not at all. Imports nothing heavy.

What is new is written into a folder of its own beside its place and then moved there, so that a reader sees the old or the new, a
failure leaves what was there, and two processes that write at once do not meet.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from paddlemix_qwenvl.errors import ConfigurationError

_SCRATCH = ".unfinished-"


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """A path to write to, of the same name; its file takes the place of `path` at the end, unless an exception ends the context."""
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=path.parent) as scratch:
        unfinished = Path(scratch, path.name)
        yield unfinished
        unfinished.replace(path)


def remove_unfinished(folder: Path) -> None:
    """Take away what a process that was killed had begun to write in a folder that nobody else writes to."""
    for scratch in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def whole_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """A new folder to fill; it takes the place of `folder`, and of all that is in it, at the end, unless an exception ends the
    context. Folders above it are made."""
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder.parent) as scratch:
        new = Path(scratch, "new")
        new.mkdir()
        yield new
        replace_folder(folder, new)


def replace_folder(folder: Path, new: Path) -> None:
    """Give the folder `new`, which lies beside `folder`, its name; what had it is removed, and keeps it if that cannot be."""
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder.parent) as scratch:
        old = Path(scratch, "old")
        with suppress(FileNotFoundError):
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:  # another process was faster
            with suppress(OSError):
                old.rename(folder)
            raise


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a file in UTF-8."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any, **form: Any) -> None:
    """Write a file of JSON, two spaces a level; `form` as in `json.dumps`."""
    write_text(path, json.dumps(value, **{"indent": 2, **form}) + "\n")


def folder_to_save(save_directory: str | os.PathLike) -> Path:
    """The folder, made.

    Raises:
        ConfigurationError: it is a file.
    """
    folder = Path(save_directory)
    if folder.is_file():
        raise ConfigurationError(f"{folder} is a file: give a folder to save into.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
