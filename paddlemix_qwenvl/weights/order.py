"""Columns of a weight that were dealt out to groups by their activations ("act-order"), each in its group again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GROUPS_OF = 32
"""What every group size is a multiple of, as the products of `ops/int4.py` want it."""


@dataclass(frozen=True)
class Order:
    """Columns put so that those of one group lie together.

    Attributes:
        columns: int32, which of this rank's columns each one is; -1 for one that counts for nothing and fills a group up.
        groups: of the file, one for each `size` of the columns.
    """

    columns: np.ndarray
    groups: np.ndarray
    size: int

    @classmethod
    def filled_up(cls, groups: np.ndarray) -> Order:
        """Of columns of these groups, each group filled up to a multiple of `GROUPS_OF`, which is the size."""
        found, counts = np.unique(groups, return_counts=True)
        blocks = -(-counts // GROUPS_OF)
        columns = np.full(blocks.sum() * GROUPS_OF, -1, np.int32)
        starts = np.repeat((blocks.cumsum() - blocks) * GROUPS_OF - (counts.cumsum() - counts), counts)
        columns[starts + np.arange(len(groups))] = np.argsort(groups, kind="stable")
        return cls(columns, np.repeat(found, blocks), GROUPS_OF)

    def of(self, values: np.ndarray, nothing: np.ndarray | int) -> np.ndarray:
        """The columns of `values` in this order; `nothing`, of each group or of all, where there is none."""
        nothing = np.broadcast_to(np.asarray(nothing, values.dtype), (len(values), len(self.groups)))
        return np.where(self.columns < 0, np.repeat(nothing, self.size, axis=1), values[:, self.columns])
