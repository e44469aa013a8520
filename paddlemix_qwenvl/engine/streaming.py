"""Text while it is generated, in whole characters."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue


class Characters:
    """One row's tokens as text, whole characters at a time. Both families' tokens are bytes of UTF-8, so a token may end
    within a character; its first part is held back until the rest is there, and what was shown is not decoded again.

    Args:
        tokenizer: anything with `decode(token_ids, skip_special_tokens=...)`.
        skip_special_tokens: leave special tokens out.
    """

    def __init__(self, tokenizer, skip_special_tokens: bool = True):
        self._tokenizer, self._skip = tokenizer, skip_special_tokens
        self._held: list[int] = []

    def copy(self) -> Characters:
        """Another that goes on from here."""
        twin = Characters(self._tokenizer, self._skip)
        twin._held = [*self._held]
        return twin

    def add(self, token_id: int) -> str:
        """The text that one more token makes whole."""
        self._held.append(int(token_id))
        text = self._decode()
        if text.endswith("\ufffd"):
            return ""
        self._held = []
        return text

    def flush(self) -> str:
        """What is held back, as far as it goes."""
        text, self._held = self._decode(), []
        return text

    def _decode(self) -> str:
        return self._tokenizer.decode(self._held, skip_special_tokens=self._skip) if self._held else ""


class BatchStreamer:
    """Turns the new tokens of every row into text as they come.

    Args:
        tokenizer: anything with `decode(token_ids, skip_special_tokens=True)`.
        on_text: called with the row's number and each new piece of its text.
    """

    def __init__(self, tokenizer, on_text: Callable[[int, str], None]):
        self._tokenizer, self._on_text = tokenizer, on_text
        self._rows: list[Characters] = []

    def put(self, token_ids) -> None:
        """One step's tokens, `[B]`; the pad tokens of rows that have ended are special and show nothing."""
        self._rows = self._rows or [Characters(self._tokenizer) for _ in token_ids]
        for row, (characters, token) in enumerate(zip(self._rows, token_ids, strict=True)):
            self._show(row, characters.add(token))

    def end(self) -> None:
        """Show what is left."""
        rows, self._rows = self._rows, []
        for row, characters in enumerate(rows):
            self._show(row, characters.flush())

    def _show(self, row: int, text: str) -> None:
        if text:
            self._on_text(row, text)


class TextStreamer(BatchStreamer):
    """Turns the first row's new tokens into text as they come.

    Args:
        tokenizer: anything with `decode(token_ids, skip_special_tokens=True)`.
        on_text: called with each new piece of text; prints it if not given.
    """

    def __init__(self, tokenizer, on_text: Callable[[str], None] | None = None):
        on_text = on_text or _write
        super().__init__(tokenizer, lambda row, text: on_text(text))

    def put(self, token_ids) -> None:
        """One step's tokens, `[B]`."""
        super().put(token_ids[:1])


def stream_text(generate: Callable, tokenizer, **arguments) -> Iterator[str]:
    """The first row's text piece by piece while `generate(**arguments)` runs on a thread.

    Closing the iterator, or leaving its loop, ends generation before the next token. What `generate` raises is raised here.
    """
    pieces: SimpleQueue = SimpleQueue()
    closed = threading.Event()
    criteria = [*listed(arguments.pop("stopping_criteria", None)), lambda ids, scores: closed.is_set()]

    def run():
        try:
            generate(**arguments, streamer=TextStreamer(tokenizer, pieces.put), stopping_criteria=criteria)
            pieces.put(None)
        except BaseException as error:
            pieces.put(error)

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    try:
        while (piece := pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        closed.set()
        worker.join()


def listed(criteria) -> list[Callable]:
    """One or several stopping criteria, or None."""
    return [criteria] if callable(criteria) else [*(criteria or ())]


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
