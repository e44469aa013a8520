"""Media from files below one folder that the operator names."""

from __future__ import annotations

import os
import re
import stat
from os.path import realpath
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from paddlemix_qwenvl.errors import ConfigurationError, MediaError

_FILE = re.compile(r"file://(localhost)?(?=/)", re.IGNORECASE)
_REFUSED = "this server takes no such file; send a data URI: data:image/png;base64,DATA."


class Folder:
    """A folder whose files requests may name, by their whole path, relative to it, or as a file:// address.

    Raises:
        ConfigurationError: there is no such folder.
    """

    def __init__(self, path: str | os.PathLike, most_bytes: int):
        if not os.path.isdir(path):
            raise ConfigurationError(f"media below {os.fspath(path)!r}: no such folder; give one that is there.")
        self._root, self._most_bytes = realpath(path), most_bytes

    def open(self, name: str) -> BinaryIO:
        """A file. What is outside, missing or no file is all the same to whoever asks.

        Raises:
            MediaError: it is not had, or too large.
        """
        scheme = _FILE.match(name)
        path = unquote(name[scheme.end() :]) if scheme else name
        try:
            file = self._open(realpath(os.path.join(self._root, path)))
        except (OSError, ValueError):
            raise MediaError(_REFUSED) from None
        if os.fstat(file.fileno()).st_size > self._most_bytes:
            file.close()
            raise MediaError(f"it has over {self._most_bytes} bytes; name a smaller one.")
        return file

    def _open(self, path: str) -> BinaryIO:
        """A path without links, component by component: none of them becomes a link in between."""
        *folders, name = Path(path).relative_to(self._root).parts or ("",)
        at = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for folder in folders:
                below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                os.close(at)
                at = below
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        finally:
            os.close(at)
        file = open(descriptor, "rb")  # noqa: SIM115  (the caller's)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise ValueError("no regular file")
        return file
