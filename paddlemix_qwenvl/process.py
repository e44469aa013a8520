"""What a process of our own, a command's, may change about itself. Imports nothing heavy."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next array instead of giving it back to the system: for processes of our own.

    An activation of a long prompt is tens of megabytes; taken from the system anew in every layer, its page faults cost a
    tenth of the prefill. Elsewhere than on glibc nothing happens.
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def give_back_freed_memory() -> None:
    """Let glibc give the system the pages between what is in use, which were freed: after a large picture, whose activations leave
    holes of 100 MB that fit nothing of a prompt's. It takes 9 ms, where the picture took seconds. Elsewhere nothing happens.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


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
