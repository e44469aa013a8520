"""Tokens that may follow, looked up in what was there before: an answer that repeats its prompt is checked several at a time.

Source: prompt lookup decoding (Saxena 2023), `prompt_lookup_num_tokens` of transformers.
"""

from __future__ import annotations

import numpy as np

_NGRAMS = (3, 2)  # tokens that have to be the same, the most first
_LONGEST_PAUSE = 64


class PromptLookup:
    """Drafts for one sequence. After a draft of which nothing was right it pauses, each time twice as long.

    Args:
        count: tokens of a draft, at most.
    """

    def __init__(self, count: int):
        self._count, self._pause, self._left = count, 1, 0

    def copy(self) -> PromptLookup:
        """Another with the same memory."""
        twin = PromptLookup(self._count)
        twin._pause, twin._left = self._pause, self._left
        return twin

    def drafts(self, ids: np.ndarray, room: int) -> list[int]:
        """What may follow `ids` `[S]`, `room` tokens at most."""
        count = min(self._count, room)
        if count <= 0:
            return []
        if self._left:
            self._left -= 1
            return []
        for size in filter(lambda size: size < ids.size, _NGRAMS):
            windows = np.lib.stride_tricks.sliding_window_view(ids[:-1], size)
            found = np.flatnonzero((windows == ids[-size:]).all(axis=1))
            if found.size:
                start = int(found[-1]) + size
                return ids[start : start + count].tolist()
        return []

    def took(self, accepted: int) -> None:
        """So many tokens of the last draft were right."""
        if accepted:
            self._pause = 1
        else:
            self._left, self._pause = self._pause, min(_LONGEST_PAUSE, 2 * self._pause)
