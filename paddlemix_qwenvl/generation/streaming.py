"""Text while it is generated, in whole characters."""

from __future__ import annotations

import sys
from collections.abc import Callable


class TextStreamer:
    """Turns the first row's new tokens into text as they come. Half a character is held back until the rest is there.

    Args:
        tokenizer: anything with `decode(token_ids, skip_special_tokens=True)`.
        on_text: called with each new piece of text; prints it if not given.
    """

    def __init__(self, tokenizer, on_text: Callable[[str], None] | None = None):
        self._tokenizer = tokenizer
        self._on_text = on_text or _write
        self._ids: list[int] = []
        self._shown = 0

    def put(self, token_ids) -> None:
        """One step's tokens, `[B]`."""
        self._ids.append(int(token_ids[0]))
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        if not text.endswith("\ufffd"):
            self._show(text)

    def end(self) -> None:
        """Show what is left."""
        self._show(self._tokenizer.decode(self._ids, skip_special_tokens=True))
        self._ids, self._shown = [], 0

    def _show(self, text: str) -> None:
        if len(text) > self._shown:
            self._on_text(text[self._shown :])
            self._shown = len(text)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
