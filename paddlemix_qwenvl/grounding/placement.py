"""Where the labels of a picture go."""

from collections.abc import Sequence

import numpy as np

Box = tuple[float, float, float, float]

_LABEL_WEIGHT, _NEXT_TO_NOTHING = 4.0, 0.05


class LabelPlacement:
    """The places taken on a canvas of `size` (width, height): its `shapes`, and each label from when it is placed."""

    def __init__(self, size: tuple[int, int], shapes: Sequence[Box]):
        self.size, self.taken = size, len(shapes)
        unplaced = [(0.0, 0.0, 0.0, 0.0)] * len(shapes)  # a label that is not placed yet has no area
        self.boxes = np.array([*shapes, *unplaced]).reshape(-1, 4)
        self.weights = np.repeat([1.0, _LABEL_WEIGHT], len(shapes))

    def place(self, around: Box, width: float, height: float) -> tuple[float, float]:
        """Upper left corner of a label: of the spots next to or just inside `around` the first that hides next to nothing
        of the shapes and the other labels, else the one that hides least. To be called at most once a shape."""
        left, top, right, bottom = around
        spots = np.array(
            [
                (left, top - height),
                (left, bottom),
                (right - width, top - height),
                (right - width, bottom),
                (right, top),
                (left - width, top),
                (left, top),
                (left, bottom - height),
            ]
        )
        spots = np.clip(spots, 0, np.maximum(np.subtract(self.size, (width, height)), 0))
        hidden = self._hidden(spots, np.add(spots, (width, height)))
        free = np.flatnonzero(hidden < _NEXT_TO_NOTHING)
        x, y = spots[free[0] if len(free) else hidden.argmin()]
        self.boxes[self.taken] = x, y, x + width, y + height
        self.taken += 1
        return float(x), float(y)

    def _hidden(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """For labels [N, 2] to [N, 2], the weighted sum over all boxes of the share of each that lies under it: [N]."""
        sides = np.minimum(ends[:, None], self.boxes[:, 2:]) - np.maximum(
            starts[:, None], self.boxes[:, :2]
        )  # [N, M, 2]
        areas = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1)
        return (sides.clip(min=0).prod(axis=2) / areas.clip(min=1)) @ self.weights
