"""The runner of a model on a device that computes while Python goes on: decode steps that nothing waits for."""

from __future__ import annotations

import numpy as np
import paddle

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.engine.packing import Sizes, marks_of, pack, unpack
from paddlemix_qwenvl.engine.runner import Drawn, ModelRunner, StepInputs
from paddlemix_qwenvl.engine.sampling import Row
from paddlemix_qwenvl.engine.transfers import Download, upload


def runner_of(model) -> ModelRunner:
    """The runner of a model where it lies. Several ranks draw tokens on the first alone, so that these have to be read there."""
    on_gpu = paddle.device.get_device().startswith("gpu")
    return DeviceRunner(model) if on_gpu and model.lm_head.parallel.degree == 1 else ModelRunner(model)


class DeviceRunner(ModelRunner):
    """A decode step takes one copy to the device. Its tokens stay there as the next one's inputs, until they are read."""

    is_asynchronous = True

    def __init__(self, model):
        super().__init__(model)
        self._drawn = paddle.zeros([1], "int32")
        self._spare_block = self._block_size = 0

    def allocate(self, num_blocks: int, block_size: int) -> None:
        """As in `Runner`; with one block more, for the rows that fill a step up."""
        super().allocate(num_blocks + 1, block_size)
        self._spare_block, self._block_size = num_blocks, block_size

    def decode(self, inputs: StepInputs, rows: list[Row]) -> Drawn:
        """As in `Runner`."""
        sizes = Sizes.of(inputs, rows)
        packed, pinned = upload(pack(inputs, rows, sizes, self._spare_block, self._block_size))
        with paddle.no_grad():
            self._drawn, drawn = self._decode(packed, sizes)
        return _Queued(Download(drawn, pinned), len(rows))

    def _decode(self, packed, sizes: Sizes):
        """Tokens int32 `[rows]`, and the same with the logarithms of their probabilities, as bits, `[2, rows]`."""
        parts = unpack(packed, sizes)
        ids, newest = paddle.concat([parts["known"], self._drawn]).gather(parts["places"]).split(2)
        names = "position_ids", "cu_seqlens", "lengths", "block_tables", "slot_mapping"
        alpha = parts["ntk_alpha"] if self.facts.stretches else None
        given = {name: parts[name] for name in names}
        logits = self.model.step(self._cache, ids, **given, wanted=None, ntk_alpha=alpha, decoding=True)
        tokens = ops.sample(logits, parts["settings"], parts["uniform"], marks_of(parts, newest))
        scores, tokens = ops.log_probability(logits, tokens), tokens.astype("int32")
        return tokens, paddle.stack([tokens, scores.view("int32")])


class _Queued(Drawn):
    def __init__(self, download: Download, rows: int):
        self._download, self._rows = download, rows

    def read(self) -> tuple[list[int], list[float]]:
        tokens, scores = self._download.read()[:, : self._rows]
        return tokens.tolist(), np.ascontiguousarray(scores).view(np.float32).tolist()
