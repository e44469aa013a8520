"""Criteria that end generation early.

Each is called after every step with `(all ids [B, S + new], scores [B, 1])`, and returns True to end all rows, or a bool a row to
end these. One that reads a `threading.Event` cancels an answer from another thread: `lambda ids, scores: event.is_set()`.
"""

from __future__ import annotations

import numpy as np

from paddlemix_qwenvl.engine.streaming import Characters


class StopStrings:
    """Ends each row whose new text holds one of the strings, which stays at its end. To be used for one call of `generate`.

    Args:
        tokenizer: anything with `decode(token_ids, skip_special_tokens=False)`.
        prompt_length: tokens of the padded prompt, which do not count.
        strings: one or several, none of them empty.
    """

    def __init__(self, tokenizer, prompt_length: int, strings: str | list[str]):
        self._tokenizer = tokenizer
        self._seen = prompt_length
        self._strings = [strings] if isinstance(strings, str) else list(strings)
        self._reach = max(map(len, self._strings)) - 1
        self._rows: list[Characters] = []
        self._tails: list[str] = []

    def __call__(self, token_ids, scores) -> np.ndarray:
        """bool `[B]`."""
        fresh = token_ids[:, self._seen :].tolist()
        self._seen += len(fresh[0])
        self._rows = self._rows or [Characters(self._tokenizer, skip_special_tokens=False) for _ in fresh]
        self._tails = self._tails or [""] * len(fresh)
        texts = [
            tail + "".join(map(characters.add, tokens))
            for tail, characters, tokens in zip(self._tails, self._rows, fresh, strict=True)
        ]
        self._tails = [text[max(0, len(text) - self._reach) :] for text in texts]
        return np.array([any(string in text for string in self._strings) for text in texts])
