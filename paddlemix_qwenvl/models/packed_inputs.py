"""A batch of prompts as a runner of graphs takes it: packed, with its pictures beside it. Plain NumPy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class PackedInputs:
    """A batch without padding.

    Attributes:
        rows: int64 `[length]`, each row's ids, without padding.
        vision: inputs of the vision graph by name, once for each run.
        is_feature: bool arrays `[T]` over the packed ids, the tokens that the features of each run replace, in order.
        position_ids: int64 `[position_rows, T]`.
        next_positions: int64 `[B]`.
        constants: further inputs of the language graph.
    """

    rows: list[np.ndarray]
    vision: list[dict[str, np.ndarray]]
    is_feature: list[np.ndarray]
    position_ids: np.ndarray
    next_positions: np.ndarray
    constants: dict[str, np.ndarray] = field(default_factory=dict)
