"""Compiled operations that are called again without Python, on the CPU: what a CUDA graph is on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paddle import Tensor

from .dispatch import compiled_library


class Recording:
    """Calls of compiled operations, done again on other tensors."""

    def __init__(self, calls: object):
        self._calls = calls

    @classmethod
    def of(
        cls, run: Callable[[], Tensor], given: Sequence[Tensor], constant: Sequence[Tensor]
    ) -> tuple[Tensor, Recording | None]:
        """What `run` returns, and the operations that it called in this thread.

        None instead of these where they cannot be done again: compiled operations are missing, or something else took part, so that
        one of them was given a tensor that is neither of those named here nor made by one before it. What changes a tensor in place
        is not noticed.

        Args:
            given: what later calls get others for, of the same shapes but for block tables.
            constant: what is always the same, as weights.
        """
        library = compiled_library()
        if library is None or library.record is None:
            return run(), None
        library.record([*given], [*constant])
        result = None
        try:
            result = run()
        finally:
            calls = library.recorded(result)
        return result, None if calls is None else cls(calls)

    def play(self, given: Sequence[Tensor]) -> Tensor:
        """The result for tensors in place of those `given` first; the next call writes over it."""
        return compiled_library().play(self._calls, [*given])
