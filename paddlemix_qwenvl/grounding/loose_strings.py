"""Strings in the JSON that language models write: where each of them ends, and what it says."""

import re
from bisect import bisect_right
from functools import cached_property

from ..text import repair

QUOTES = "\"“”＂'‘’＇"
KEY, VALUE, ELEMENT = "key", "value", "element"

_QUOTE = rf"\\?[{QUOTES}]"
QUOTED_KEY = rf"{_QUOTE}{{1,2}}[^{QUOTES}\n:,]{{1,60}}{_QUOTE}{{1,2}}\s*(?::|(?=\[))"
_BARE_KEY = rf"(?:{_QUOTE})?\w{{1,60}}(?:{_QUOTE})?\s*:\s*(?:{_QUOTE}|[\[({{\d-])"
_PAIR = rf"(?:{QUOTED_KEY}|(?<=[,\s]){_BARE_KEY})"
_CUT_PAIR = rf"\s*[,;]\s{{0,99}}(?:(?:{_QUOTE})?\w{{0,60}}|{_QUOTE}\w{{0,60}}{_QUOTE}\s*:?)\s*\Z"
_OBJECT = rf"\{{[\s{{]{{0,99}}(?:{QUOTED_KEY}|{_BARE_KEY}|(?:{_QUOTE})?\w{{0,60}}(?:{_QUOTE})?\s*\Z)"
_CLOSED = rf"[\]}}][^{QUOTES}\n{{\[]{{0,500}}(?:\n|{_OBJECT}|\[\s*[\[{{\d-]|```|\Z|{_PAIR})"
_COMMAS = r"(?=(?P<commas>\s*(?:[,;]\s*)*))(?P=commas)"  # takes all there is and gives nothing back
# What follows the quote that ends a string. A value may hold any other quote, so what follows its end must be JSON for sure:
# the next pair, be it cut off, the next object, the end, or a bracket with no further quote on its line but in JSON again.
_FOLLOWING = {
    KEY: rf"\s*(?:[:\[]|{_QUOTE}(?!\s*:))",
    ELEMENT: rf"\s*(?:,\s*(?:{_QUOTE}|[\[({{\d\])}}-])|[\])}}:\n]|\Z|```)",
    VALUE: rf"{_CUT_PAIR}|{_COMMAS}(?:{_PAIR}|{_OBJECT}|{_CLOSED}|```|\Z)",
}
_SORTS = ('"“”＂', "'‘’＇")
_BEGINNING_OF_PAIR = re.compile(rf"[,{{\n]\s{{0,99}}{QUOTED_KEY}")
_COMMA_AND_PAIR = re.compile(rf"\s*,\s*{_PAIR}")
_STRICT = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_LINE_END = re.compile(r"[}\n]")
_UNCLOSED_KEY = re.compile(r"\w+(?=\s*:)")
_PHRASE = re.compile(rf"[^{QUOTES},:;{{}}()\[\]\n]+")


class Strings:
    """The ends of all strings in `plain`, a text with half-width signs. Found once, so that a search takes no time."""

    def __init__(self, plain: str):
        self.plain = plain

    def end(self, start: int, quote: str, role: str, strict: bool) -> int | None:
        """Where the closing quote stands of a string whose content begins at `start`, or None if it is never closed.

        quote: the opening one, with the backslash before it if there is one. role: `KEY`, `VALUE` or `ELEMENT`.
        strict: the string is part of what the json module reads.
        """
        if strict:
            return _STRICT.match(self.plain, start).end()
        end = _first_from(self._ends[quote, role], start)
        pair = _first_from(self._pairs, start)
        return end if pair is None or (end is not None and end <= pair) else None

    def unclosed_end(self, start: int, role: str) -> int:
        """Where a string that is never closed ends: before the next pair, or with its object or its line."""
        if role == KEY and (word := _UNCLOSED_KEY.match(self.plain, start)):
            return word.end()
        ends = _first_from(self._pairs, start), _first_from(self._line_ends, start), len(self.plain)
        return min(end for end in ends if end is not None)

    def phrase_end(self, start: int) -> int:
        """Where words end that stand where a string should."""
        return _PHRASE.match(self.plain, start).end()

    def pair_follows(self, at: int) -> bool:
        """Whether a comma and the next pair of an object stand at `at`."""
        return _COMMA_AND_PAIR.match(self.plain, at) is not None

    @cached_property
    def _pairs(self) -> list[int]:
        return [match.start() for match in _BEGINNING_OF_PAIR.finditer(self.plain)]

    @cached_property
    def _line_ends(self) -> list[int]:
        return [match.start() for match in _LINE_END.finditer(self.plain)]

    @cached_property
    def _ends(self) -> dict[tuple[str, str], list[int]]:
        ends = {}
        for quotes in _SORTS:
            for role, following in _FOLLOWING.items():
                bare = re.compile(rf"(?<!\\)(?:\\\\)*([{quotes}])(?={following})")
                escaped = re.compile(rf"()\\[{quotes}](?={following})")
                for found, backslash in ((bare, ""), (escaped, "\\")):
                    places = [match.start(1) for match in found.finditer(self.plain)]
                    ends |= {(backslash + quote, role): places for quote in quotes}
        return ends


def _first_from(places: list[int], start: int) -> int | None:
    number = bisect_right(places, start - 1)
    return places[number] if number < len(places) else None


_ESCAPE = re.compile(r"\\(?:u(?P<code>[0-9a-fA-F]{4})|(?P<word>[a-zA-Z]+)|(?P<sign>.))", re.DOTALL)
# LaTeX's commands that begin like the escapes of a tab and a line end. The short ones count only beside other LaTeX.
_COMMAND = re.compile(
    "nabla|nearrow|neg|neq|nexists|ngeq|nleq|nmid|not|notin|nparallel|nsubseteq|nwarrow"
    "|tanh|tau|text(?:bf|it|rm|sf|tt)?|tfrac|therefore|theta|tilde|times|top|triangle"
)
_SHORT_COMMAND = re.compile("ne|ni|nu|tan|to")
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def unescape(body: str) -> str:
    r"""What a string says. Its escapes are JSON's, but LaTeX keeps its backslashes: in `\frac` there is no form feed."""
    if "\\" not in body:
        return repair(body)
    is_raw = any(map(_is_foreign, _ESCAPE.finditer(body)))
    is_math = is_raw or "$" in body or "^" in body

    def said(escape: re.Match) -> str:
        code, word, sign = escape.group("code", "word", "sign")
        if code:
            return chr(int(code, 16))
        if sign:
            return sign if sign in QUOTES + "/" or (sign == "\\" and not is_raw) else escape[0]
        if _is_foreign(escape) or (is_math and _SHORT_COMMAND.fullmatch(word)):
            return escape[0]
        return _CONTROLS[word[0]] + word[1:]

    return repair(_ESCAPE.sub(said, body))


def _is_foreign(escape: re.Match) -> bool:
    """Whether JSON has no such escape, or it is a command of LaTeX for sure."""
    word, sign = escape["word"], escape["sign"]
    if not word:
        return bool(sign) and sign not in QUOTES + "\\/"
    return bool(_COMMAND.fullmatch(word)) or word[0] not in _CONTROLS or (len(word) > 1 and word[0] in "bfr")
