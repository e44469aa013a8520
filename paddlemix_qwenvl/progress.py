"""How far something has come that takes long."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

OnProgress = Callable[[int, int], None]
"""Gets what is done, and the whole."""


class Counter:
    """Adds up, from any thread, what is done of a whole.

    Args:
        whole: in the unit of `add`.
        on_progress: is told after each.
    """

    def __init__(self, whole: int, on_progress: OnProgress | None):
        self._done, self._whole, self._on_progress, self._lock = 0, whole, on_progress, Lock()

    def add(self, amount: int) -> None:
        """So much more is done."""
        with self._lock:
            self._done += amount
            if self._on_progress:
                self._on_progress(self._done, self._whole)
