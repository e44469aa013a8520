"""What a process of our own, a command's, may change about itself. Imports nothing heavy."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next array instead of giving it back to the system: for processes of our own.

    An activation of a long prompt is tens of megabytes; taken from the system anew in every layer, its page faults cost a
    tenth of the prefill. Elsewhere than on glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def collection_paused() -> Iterator[None]:
    """No garbage collection in this context: while Paddle is imported it takes about 0.1 s."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
