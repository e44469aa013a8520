"""What was made from a picture, kept for when the same picture comes again, as in the next turn of a chat."""

import threading
from collections import OrderedDict
from hashlib import blake2b
from typing import Any, BinaryIO

import numpy as np


def content_key(content: BinaryIO | np.ndarray, *settings: Any) -> bytes:
    """A key of 32 bytes for a file's content, which is read and wound back, or an array's, treated in a certain way.

    Equal for equal content whatever its name; `settings` are told apart by their `repr`.
    """
    digest = blake2b(repr(settings).encode(), digest_size=32)
    if isinstance(content, np.ndarray):
        digest.update(repr((content.shape, content.dtype.str)).encode())
        digest.update(np.ascontiguousarray(content))
        return digest.digest()
    while chunk := content.read(1 << 20):
        digest.update(chunk)
    content.seek(0)
    return digest.digest()


class ContentCache:
    """Values under the key of the content they were made from, `max_bytes` in all: what was used longest ago goes.

    Threads may share one. Values are handed out as they are: copy what the caller may change.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._entries: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Any | None:
        """The value, or None where there is none."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: bytes, value: Any, nbytes: int) -> None:
        """Keeps `value`, which takes `nbytes`; one that is larger than the whole cache is not kept."""
        with self._lock:
            self.used_bytes -= self._entries.pop(key, (None, 0))[1]
            if nbytes > self.max_bytes:
                return
            self._entries[key] = value, nbytes
            self.used_bytes += nbytes
            while self.used_bytes > self.max_bytes:
                self.used_bytes -= self._entries.popitem(last=False)[1][1]
