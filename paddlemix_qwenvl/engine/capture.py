"""Work that a GPU is told of once and does again by one call: a CUDA graph."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import paddle
from paddle.device.cuda.graphs import CUDAGraph

_LOG = logging.getLogger(__name__)


class Captured:
    """Work of fixed shapes on tensors that stay where they are. It must have been done before, so that kernels are loaded.

    Args:
        run: the work, which reads and writes `tensors` and weights alone, and waits for nothing; it is not done here.
        tensors: live as long as this.

    Attributes:
        output: of `run`; written anew by each `replay`.

    Raises:
        RuntimeError, OSError, ValueError, MemoryError: something of it cannot be captured.
    """

    def __init__(self, run: Callable[[], paddle.Tensor], tensors: Sequence[paddle.Tensor]):
        self._run, self.tensors = run, tensors
        index = paddle.device.get_device().partition(":")[2]
        self._graph = CUDAGraph(paddle.CUDAPlace(int(index or 0)))  # by itself it takes the card of FLAGS_selected_gpus
        self._graph.capture_begin()
        try:
            self.output = run()
        finally:
            self._graph.capture_end()

    def replay(self) -> None:
        """Queue the work once more."""
        self._graph.replay()


class Captures:
    """Captured work by what it is for: done as it is at first, captured the second time, from then on replayed."""

    def __init__(self, is_on: bool):
        self._is_on = is_on
        self._found: dict[object, Captured | None] = {}

    def clear(self) -> None:
        """Forget all: the tensors have moved."""
        self._found.clear()

    def get(self, key: object) -> Captured | None:
        """What was captured for a key."""
        return self._found.get(key)

    def done(self, key: object, run: Callable[[], paddle.Tensor], tensors: Sequence[paddle.Tensor]) -> None:
        """The work of a key has been done as it is; arguments as `Captured`'s. Where it cannot be captured that is said once."""
        if not self._is_on:
            return
        if key not in self._found:
            self._found[key] = None
            return
        try:
            self._found[key] = Captured(run, tensors)
        except (AssertionError, MemoryError, OSError, RuntimeError, ValueError) as error:
            self._is_on = False
            reason = str(error).strip().split("\n")[-1]
            _LOG.warning("decode steps are queued operation by operation, since they cannot be captured: %s", reason)
