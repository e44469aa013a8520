"""The runner of a model on a device that computes while Python goes on: decode steps that nothing waits for."""

from __future__ import annotations

from functools import partial

import numpy as np
import paddle

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.engine.capture import Captures
from paddlemix_qwenvl.engine.packing import Sizes, marks_of, pack, unpack
from paddlemix_qwenvl.engine.runner import Drawn, ModelRunner, StepInputs
from paddlemix_qwenvl.engine.sampling import Row
from paddlemix_qwenvl.engine.transfers import Download, Uploads

_ROWS = 64  # of the tokens that are kept; more where steps have more


def runner_of(model, no_cuda_graph: bool = False) -> ModelRunner:
    """The runner of a model where it lies. Several ranks draw tokens on the first alone, so that these have to be read there."""
    on_gpu = paddle.device.get_device().startswith("gpu")
    return DeviceRunner(model, no_cuda_graph) if on_gpu and model.lm_head.parallel.degree == 1 else ModelRunner(model)


class DeviceRunner(ModelRunner):
    """A decode step takes one copy to the device. Its tokens stay there as the next one's inputs, until they are read.

    Args:
        no_cuda_graph: queue each operation of a step by itself.
    """

    is_asynchronous = True

    def __init__(self, model, no_cuda_graph: bool = False):
        super().__init__(model)
        self._captures, self._uploads = Captures(not no_cuda_graph), Uploads()
        self._drawn = paddle.zeros([_ROWS], "int32")
        self._spare_block = self._block_size = 0

    def allocate(self, num_blocks: int, block_size: int) -> None:
        """As in `Runner`; with one block more, for the rows that fill a step up."""
        super().allocate(num_blocks + 1, block_size)
        self._captures.clear()
        self._spare_block, self._block_size = num_blocks, block_size

    def decode(self, inputs: StepInputs, rows: list[Row]) -> Drawn:
        """As in `Runner`."""
        sizes = Sizes.of(inputs, rows)
        if sizes.rows > self._drawn.shape[0]:
            more = paddle.zeros([sizes.rows - self._drawn.shape[0]], "int32")
            self._drawn = paddle.concat([self._drawn, more])
            self._captures.clear()
        packed = self._uploads.upload(pack(inputs, rows, sizes, self._spare_block, self._block_size))
        with paddle.no_grad():
            captured = self._captures.get(sizes)
            if captured is not None:
                paddle.assign(packed, captured.tensors[0])
                captured.replay()
                return _Queued(Download(captured.output), len(rows))
            run = partial(self._decode, packed, self._drawn, sizes)
            queued = _Queued(Download(run()), len(rows))
            self._captures.done(sizes, run, [packed, self._drawn, *self._cache.keys, *self._cache.values])
        return queued

    def _decode(self, packed, drawn, sizes: Sizes) -> paddle.Tensor:
        """One step. Its tokens are put first in `drawn`, where those of the step before are.

        Returns:
            int32 `[2, rows]`: tokens, and the logarithms of their probabilities as bits.
        """
        parts = unpack(packed, sizes)
        ids, newest = paddle.concat([parts["known"], drawn]).gather(parts["places"]).split(2)
        names = "position_ids", "cu_seqlens", "lengths", "block_tables", "slot_mapping"
        alpha = parts["ntk_alpha"] if self.facts.stretches else None
        given = {name: parts[name] for name in names}
        logits = self.model.step(self._cache, ids, **given, wanted=None, ntk_alpha=alpha, decoding=True)
        tokens, scores = ops.sample(logits, parts["settings"], parts["uniform"], marks_of(parts, newest))
        tokens = tokens.astype("int32")
        paddle.assign(paddle.concat([tokens, drawn[sizes.rows :]]), drawn)
        return paddle.stack([tokens, scores.view("int32")])


class _Queued(Drawn):
    def __init__(self, download: Download, rows: int):
        self._download, self._rows = download, rows

    def read(self) -> tuple[list[int], list[float]]:
        tokens, scores = self._download.read()[:, : self._rows]
        return tokens.tolist(), np.ascontiguousarray(scores).view(np.float32).tolist()
