"""The residual stream of a pre-norm transformer."""

from __future__ import annotations


class ResidualStream:
    """Hidden states between the parts of the blocks: `x [T, width]` and the `residual` it is still to be added to, None at first.

    The next norm adds them in its own pass. Blocks are given the stream and not its tensors: an argument lives as long as the
    call, so that two more tensors would live through every block.
    """

    def __init__(self, x):
        self.x, self.residual = x, None

    def normalised(self, norm):
        """`norm` of the sum, which becomes the residual; `x` is then to be set to what the block makes of it."""
        if self.residual is None:
            y, self.residual = norm(self.x), self.x
        else:
            y, self.residual = norm(self.x, self.residual)
        self.x = None
        return y

    def total(self):
        """The sum."""
        return self.x if self.residual is None else self.x + self.residual
