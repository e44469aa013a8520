"""The residual stream of a pre-norm transformer."""

from __future__ import annotations

import paddle


class ResidualStream:
    """Hidden states between the parts of the blocks: `x [T, width]` and the `residual` it is still to be added to, None at first.

    The next norm adds them in its own pass. Blocks are given the stream and not its tensors: an argument lives as long as the
    call, so that two more tensors would live through every block. Beside float16 the residual is float32: what many blocks add up
    to may pass 65 504, of which the norm leaves nothing.
    """

    def __init__(self, x):
        self.x, self.residual = x, None
        self._is_widened = x.dtype == paddle.float16

    def normalised(self, norm):
        """`norm` of the sum, which becomes the residual; `x` is then to be set to what the block makes of it."""
        if self._is_widened:
            self.residual = self.total()
            y = norm(self.residual).astype("float16")
        elif self.residual is None:
            y, self.residual = norm(self.x), self.x
        else:
            y, self.residual = norm(self.x, self.residual)
        self.x = None
        return y

    def total(self):
        """The sum, float32 beside float16."""
        x = self.x.astype("float32") if self._is_widened else self.x
        return x if self.residual is None else x + self.residual
