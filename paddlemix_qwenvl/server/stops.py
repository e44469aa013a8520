"""Stop strings: the engine ends an answer with them, and here they are left out of its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class StopStrings:
    """Takes one answer's text piece by piece, and holds back what may become a stop string.

    Args:
        stops: the strings.
        keep: leave the one that was found in the text.

    Attributes:
        found: the first that was found.
    """

    stops: Sequence[str]
    keep: bool = False
    found: str | None = None
    _held: str = ""

    def add(self, text: str, final: bool = False) -> str:
        """What of the text is certain to stay, with one more piece of it, or with the last one."""
        text, self._held = self._held + text, ""
        if self.found is not None:
            return ""
        places = {stop: place for stop in self.stops if (place := text.find(stop)) >= 0}
        if places:
            self.found = min(places, key=places.__getitem__)
            return text[: places[self.found] + (len(self.found) if self.keep else 0)]
        if not final:
            self._held = max((_beginning_at_end(stop, text) for stop in self.stops), key=len, default="")
        return text[: len(text) - len(self._held)]


def _beginning_at_end(stop: str, text: str) -> str:
    """The longest beginning of `stop`, but not all of it, that `text` ends with."""
    return next((stop[:size] for size in range(len(stop) - 1, 0, -1) if text.endswith(stop[:size])), "")
