"""Copies between the host and a GPU that neither waits for: through pinned memory, in the order of the GPU's own work."""

from __future__ import annotations

import numpy as np
import paddle


class Uploads:
    """Arrays to the GPU. Of pinned memory there are two pieces a size: one is filled while the other is still copied from, so that
    before the third array of a size what was queued behind the first has to be waited for.
    """

    def __init__(self):
        self._pinned: dict[int, list[paddle.Tensor]] = {}

    def upload(self, array: np.ndarray) -> paddle.Tensor:
        """A flat int32 array on the GPU."""
        pieces, place = self._pinned.setdefault(array.size, []), paddle.CUDAPinnedPlace()
        if len(pieces) < 2:
            pinned = paddle.to_tensor(array, place=place)
        else:
            pinned = pieces.pop(0)
            pinned.get_tensor().set(array, place)  # `set_value` would move it to the GPU
        pieces.append(pinned)
        return pinned.cuda(blocking=False)


class Download:
    """A tensor of the GPU on its way to the host, as the work queued so far leaves it."""

    def __init__(self, x: paddle.Tensor):
        self._host = x.pin_memory(blocking=False)
        self._arrived = paddle.device.cuda.Event()
        self._arrived.record()

    def read(self) -> np.ndarray:
        """The numbers, once they are there."""
        self._arrived.synchronize()
        return self._host.numpy()
