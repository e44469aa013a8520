"""Decode steps on a CPU, whose operations Python calls once and the library again for every token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import paddle

from paddlemix_qwenvl.ops.recording import Recording


class Repeats:
    """Work of a model that comes again with other tensors: done as it is at first, recorded the second time, from then on repeated,
    as long as it has the same number of rows.

    Layers that hooks watch, and those of several ranks, which add up what they have in place, are done as they are.

    Args:
        model: whose weights the work reads.
    """

    def __init__(self, model):
        self._model = model
        self._rows = 0
        self._recording: Recording | None = None
        self._may_record = True

    def __call__(self, run: Callable[[], paddle.Tensor], tensors: Sequence[paddle.Tensor]) -> paddle.Tensor:
        """What `run` returns; the next call may write over it.

        Args:
            tensors: all that changes of what it reads, `[rows, ...]` the first.
        """
        rows = tensors[0].shape[0]
        if self._recording is not None and rows == self._rows:
            return self._recording.play(tensors)
        is_second, self._rows, self._recording = rows == self._rows, rows, None
        if not (is_second and self._may_record):
            return run()
        self._may_record = tensors[0].place.is_cpu_place() and self._is_plain()
        if not self._may_record:
            return run()
        result, self._recording = Recording.of(run, tensors, [*self._model.parameters(), *self._model.buffers()])
        self._may_record = self._recording is not None
        return result

    def _is_plain(self) -> bool:
        decoder, head = self._model.decoder, self._model.lm_head
        layers = self._model.get_input_embeddings(), decoder, *decoder.blocks.sublayers(), decoder.last_norm, head
        hooks = any(layer._forward_pre_hooks or layer._forward_post_hooks for layer in layers)
        return head.parallel.degree == 1 and not hooks
