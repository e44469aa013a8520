"""How far a model has been loaded and a prompt has come, on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from time import monotonic

from paddlemix_qwenvl.media.messages import extract_vision_info
from paddlemix_qwenvl.progress import OnProgress

LOADING = "{l_bar}{bar}| {elapsed}<{remaining}"
MINUTE = 60.0
HINT = "the prompt of {total} tokens takes minutes: --max_pixels makes fewer of its pictures and frames"


@contextlib.contextmanager
def loading_bar(hidden: bool = False) -> Iterator[OnProgress | None]:
    """`on_progress` of what loads a model: a bar where that takes over a second; None where nobody would see it."""
    if hidden or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=1, desc="Loading", leave=False, delay=1, bar_format=LOADING) as bar:

        def show(done: int, whole: int) -> None:
            bar.update(done / whole - bar.n)

        yield show


def quarters(say: Callable[[str], None]) -> OnProgress:
    """`on_progress` of what loads a model that says a line at each quarter."""
    told = 0

    def tell(done: int, whole: int) -> None:
        nonlocal told
        if 4 * done // whole > told:
            told = 4 * done // whole
            say(f"loading: {25 * told} %")

    return tell


@contextlib.contextmanager
def prompt_bar(processor, messages: list[dict], hidden: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """`on_progress` of `Assistant.answer`: a bar that is gone when the answer begins; None where nobody would see it.

    Args:
        processor: the model's; where it resizes the pictures of the messages, what takes over a minute is told how to be shorter.
    """
    if hidden or not sys.stderr.isatty():
        yield None
        return
    resizes = hasattr(processor.image_processor, "max_pixels") and extract_vision_info(messages)
    bar = _PromptBar(HINT if resizes else "")
    try:
        yield bar.show
    finally:
        bar.close()


class _PromptBar:
    def __init__(self, hint: str):
        self._hint = hint
        self._bar = None
        self._seen = monotonic(), 0

    def show(self, done: int, total: int) -> None:
        """So many tokens are computed; at first none are, then the pictures are encoded."""
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=total, desc="Prompt", unit=" tokens", leave=False, smoothing=1, miniters=1)
        self._bar.update(done - self._bar.n)
        (before, seen), self._seen = self._seen, (monotonic(), done)
        if done == total:
            self.close()
        elif self._hint and 0 < seen < done and (total - done) * (self._seen[0] - before) > MINUTE * (done - seen):
            tqdm.write(self._hint.format(total=total), file=sys.stderr)
            self._hint = ""

    def close(self) -> None:
        """Take it off the terminal."""
        if self._bar is not None:
            self._bar.close()
