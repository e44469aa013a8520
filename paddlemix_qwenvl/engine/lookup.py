"""Tokens that may follow, looked up in what was there before: an answer that repeats its prompt is checked several at a time.

Source: prompt lookup decoding (Saxena 2023), `prompt_lookup_num_tokens` of transformers.
"""

from __future__ import annotations

from copy import copy

import numpy as np

_NGRAM = 3  # tokens that have to be the same
_FIRST = 2  # tokens of a draft that has not been right before: rows that cost next to nothing
_LONGEST_PAUSE = 64


class PromptLookup:
    """Drafts for one sequence, longer ones while they are right. After one that was all wrong there is a pause, longer each time.

    Args:
        count: tokens of a draft, at most.
    """

    def __init__(self, count: int):
        self._count, self._size, self._pause, self._left = count, min(_FIRST, count), 1, 0

    def copy(self) -> PromptLookup:
        """Another with the same memory."""
        return copy(self)

    def drafts(self, ids: np.ndarray, room: int) -> list[int]:
        """What may follow `ids` `[S]`, `room` tokens at most."""
        size = min(self._size, room)
        if size <= 0 or ids.size <= _NGRAM:
            return []
        if self._left:
            self._left -= 1
            return []
        windows = np.lib.stride_tricks.sliding_window_view(ids[:-1], _NGRAM)
        found = np.flatnonzero((windows == ids[-_NGRAM:]).all(axis=1))
        if not found.size:
            return []
        start = int(found[-1]) + _NGRAM
        return ids[start : start + size].tolist()

    def took(self, accepted: int, drafted: int) -> None:
        """So many tokens of the last draft were right."""
        if accepted == drafted:
            self._size, self._pause = min(self._count, 2 * self._size), 1
        elif not accepted:
            self._size, self._left = min(_FIRST, self._count), self._pause
            self._pause = min(_LONGEST_PAUSE, 4 * self._pause)
