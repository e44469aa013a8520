"""Copies between the host and a GPU that neither waits for: through pinned memory, in the order of the GPU's own work."""

from __future__ import annotations

import numpy as np
import paddle


def upload(array: np.ndarray) -> tuple[paddle.Tensor, paddle.Tensor]:
    """An array on the GPU, and the pinned copy that has to live until work queued after it has been waited for."""
    pinned = paddle.to_tensor(array, place=paddle.CUDAPinnedPlace())
    return pinned.cuda(blocking=False), pinned


class Download:
    """A tensor of the GPU on its way to the host.

    Args:
        x: as the work queued so far leaves it.
        keeps: lives as long as this.
    """

    def __init__(self, x: paddle.Tensor, keeps: object = None):
        self._host, self._keeps = x.pin_memory(blocking=False), keeps
        self._arrived = paddle.device.cuda.Event()
        self._arrived.record()

    def read(self) -> np.ndarray:
        """The numbers, once they are there."""
        self._arrived.synchronize()
        return self._host.numpy()
