"""A reader for the JSON that language models write: fenced or bare, among prose, with trailing or missing commas, single or
full-width quotes, unquoted keys, brackets too few or too many, or cut off in the middle.

Libraries that repair JSON close what is open and so turn a cut `[10, 20, 30, 4` into a box that the model never gave, and
none tells where in the text a value stood. This reader keeps what is whole, drops the rest and remembers places. What the
json module reads is read as it does; guesses are for the rest alone.
It goes through the text without recursion or backtracking: time grows with the length of the text alone.
"""

import json
import re

from .loose_strings import ELEMENT, KEY, QUOTED_KEY, QUOTES, VALUE, Strings, unescape
from .text import half_width

_MAX_DEPTH, _MAX_DEPTH_OF_JSON, _MOST_NUMBERS = 64, 8, 64
_NOTHING = object()
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}

_OPENING = re.compile(rf"[\[{{]|^[ \t]*(?P<pair>{QUOTED_KEY}\s*[{QUOTES}\[({{0-9])", re.MULTILINE)
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_TOKEN = re.compile(
    rf"(?P<mark>[\[\](){{}},:])|(?P<number>{_NUMBER})|(?P<quote>\\?[{QUOTES}])"
    rf"|(?P<word>\w+)(?:[{QUOTES}](?=\s*:))?|(?P<fence>```)"
)
# Two numbers or more, or two pairs of them, where one value belongs: the bracket before them is missing.
_SHORT = r"[-+]?[0-9.]{1,20}"
_UNBRACKETED = re.compile(
    rf"\s*(?:{_SHORT}|[\[(]\s*{_SHORT}\s*,\s*{_SHORT}\s*[\])])(?:\s*,|\s)\s{{0,99}}[\[(]?\s{{0,9}}{_SHORT}"
)
_DECODER = json.JSONDecoder(strict=False)


class Object(dict):
    """A JSON object. `span` is (start, end) in the text it was read from; `whole` is False if anything in it was cut off or
    a bracket was missing or too many."""

    span = (0, 0)
    whole = True


class Array(list):
    """A JSON array, with the same two attributes as an Object."""

    span = (0, 0)
    whole = True


class _Frame:
    """A container that is still open. In an object a value waits in `pending` until a comma or the end makes it whole."""

    def __init__(self, container, start: int):
        self.container, self.start = container, start
        self.keyless = Array()
        self.forget()

    def forget(self):
        self.key, self.named, self.pending = "", False, _NOTHING

    def awaits_value(self) -> bool:
        return self.named and self.pending is _NOTHING

    def commit(self):
        """Ends a pair of key and value; an array has neither."""
        if self.named and self.pending is not _NOTHING:
            self.container[self.key] = self.pending
        self.forget()

    def add(self, value):
        if not getattr(value, "whole", True):
            self.container.whole = False
        if isinstance(self.container, Array):
            self.container.append(value)
        elif self.awaits_value():
            self.pending = value
        elif self.key and not self.named and isinstance(value, (Object, Array)):  # a colon is missing
            self.named, self.pending = True, value
        elif isinstance(value, (Object, Array)):
            self.keyless.append(value)
            self.container[""] = self.keyless
        else:
            self.commit()
            self.key = str(value)

    def close(self, end: int):
        self.commit()
        self.container.span = (self.start, end)
        return self.container

    def cut(self, end: int):
        """Closes where the text broke off: scalars of an array and a last bare number may be incomplete and go."""
        if isinstance(self.container, Array):
            self.container[:] = [value for value in self.container if isinstance(value, (Object, Array))]
        elif not isinstance(self.pending, (Object, Array, str)):
            self.forget()
        return self.close(end)

    def is_row(self) -> bool:
        """Whether this is an array of pairs of numbers, which nothing but a number goes on with."""
        row = self.container
        return (
            isinstance(row, Array)
            and 0 < len(row) <= _MOST_NUMBERS
            and len(row) % 2 == 0
            and all(isinstance(value, (int, float)) for value in row)
        )


def read(text: str) -> list[Object | Array]:
    """Every outermost object and array in `text`, in order. Never raises; a text without any gives an empty list."""
    return _Reader(text).run()


class _Reader:
    def __init__(self, text: str):
        self.text, self.plain = text, half_width(text)
        self.strings = Strings(self.plain)
        self.found: list[Object | Array] = []
        self.stack: list[_Frame] = []
        self.json_end = 0  # what stands before this is in a container that is JSON
        self.scalar_at = 0

    def run(self):
        at = 0
        while match := (_TOKEN if self.stack else _OPENING).search(self.plain, at):
            at = self._token(match.lastgroup or "mark", match)
        self._unwind(len(self.text))
        return self.found

    def _token(self, kind: str, match: re.Match) -> int:
        """Reads one token and returns where to look for the next."""
        token, start, is_json = match[match.lastgroup or 0], match.start(), match.end() < self.json_end
        if self.stack and not is_json and (kind in ("quote", "word") or token in "[{") and self.stack[-1].is_row():
            self._end(start, whole=False)
            return start
        if kind == "pair":  # the object's bracket is missing
            self._begin(Object(), match.start("pair"))
            return match.start("pair")
        if kind == "mark":
            self._mark(token, start, is_json)
        elif kind == "fence":
            self._unwind(start)
        else:
            self.scalar_at = start
            if kind == "quote":
                return self._string(token, match.end(), is_json)
            if kind == "word" and not is_json and self.stack[-1].awaits_value():
                return self._phrase(start)
            word = self.text[start : start + len(token)]
            self.stack[-1].add(_number(token) if kind == "number" else _WORDS.get(token, word))
        return match.end()

    def _mark(self, mark: str, at: int, is_json: bool):
        if mark in "[{(":
            if len(self.stack) < _MAX_DEPTH:
                self.json_end = max(self.json_end, self._end_of_json(at))
                self.stack.append(_Frame(Object() if mark == "{" else Array(), at))
        elif mark in "]})":
            self._close(Object if mark == "}" else Array, at + 1, is_json)
        elif mark == ",":
            self.stack[-1].commit()
        else:
            self._name(at, is_json)

    def _end_of_json(self, at: int) -> int:
        """Where the JSON ends that begins at `at`: there, if it is none, or so deep in others that each look would cost time."""
        if at < self.json_end or len(self.stack) >= _MAX_DEPTH_OF_JSON:
            return at
        try:
            return _DECODER.raw_decode(self.text, at)[1]
        except (ValueError, RecursionError):
            return at

    def _name(self, at: int, is_json: bool):
        """At a colon: what was read last is a key. In an array it is one only if a bracket is missing before it."""
        frame = self.stack[-1]
        if isinstance(frame.container, Array):
            if is_json or not frame.container or not isinstance(frame.container[-1], str):
                return
            key = frame.container.pop()
            if len(self.stack) > 1 and isinstance(self.stack[-2].container, Object):
                self._end(self.scalar_at, whole=False)
            else:
                self._begin(Object(), self.scalar_at)
            frame = self.stack[-1]
            frame.add(key)
        if frame.key in frame.container:  # the next object, whose brackets are missing: nothing is to be lost
            key = frame.key
            self._end(self.scalar_at, whole=False)
            self._begin(Object(), self.scalar_at)
            frame = self.stack[-1]
            frame.add(key)
        frame.named = True
        if not is_json and _UNBRACKETED.match(self.plain, at + 1):
            self._begin(Array(), at + 1)

    def _begin(self, container: Object | Array, at: int):
        """Opens a container whose bracket is missing."""
        container.whole = False
        self.stack.append(_Frame(container, at))

    def _close(self, kind: type, end: int, is_json: bool):
        """Closes the innermost container of this kind, and what was left open in it; a bracket too many is ignored."""
        depths = {type(frame.container): depth for depth, frame in enumerate(self.stack)}
        depth = depths.get(kind, len(self.stack))
        goes_on = Object in depths and not is_json and self.strings.pair_follows(end)
        if goes_on and (depth in (0, len(self.stack)) or not isinstance(self.stack[depth - 1].container, Object)):
            depth = depths[Object] + 1  # the bracket is the wrong one: the object that is open has another pair
            self.stack[depths[Object]].container.whole = False
        while len(self.stack) > depth:
            self._end(end, whole=len(self.stack) == depth + 1 and isinstance(self.stack[-1].container, kind))

    def _end(self, end: int, whole: bool):
        """Closes the innermost container."""
        frame = self.stack.pop()
        frame.container.whole &= whole
        self._deliver(frame.close(end))

    def _unwind(self, end: int):
        """Closes all that is open. At the end of the text, what stands last is whole if it is followed by anything."""
        rest = self.plain[-100:]
        is_cut = end == len(self.plain) and (rest.rstrip().endswith(",") or rest[-1:].isalnum() or rest[-1:] in "+-.")
        while self.stack:
            frame = self.stack.pop()
            frame.container.whole = False
            if value := frame.cut(end) if is_cut else frame.close(end):
                self._deliver(value)

    def _deliver(self, value):
        if self.stack:
            self.stack[-1].add(value)
        else:
            self.found.append(value)

    def _string(self, quote: str, start: int, is_json: bool) -> int:
        """Reads the string whose content begins at `start` and returns where it ends."""
        frame = self.stack[-1]
        frame.named |= bool(frame.key) and not is_json  # a colon is missing
        role = ELEMENT if isinstance(frame.container, Array) else VALUE if frame.awaits_value() else KEY
        end = self.strings.end(start, quote, role, is_json)
        if end is not None:
            body = unescape(self.text[start:end])
            frame.add(body.strip(QUOTES) if role == KEY and not is_json else body)
            return end + len(quote)
        frame.container.whole = False
        end = self.strings.unclosed_end(start, role)
        if end < len(self.text):
            frame.add(unescape(self.text[start:end]).rstrip(",").strip())
        return end

    def _phrase(self, start: int) -> int:
        """Reads words that stand where a string should, and returns where they end."""
        end = self.strings.phrase_end(start)
        words = self.text[start:end].strip()
        self.stack[-1].add(_WORDS.get(words, words))
        return end + (self.plain[end : end + 1] in QUOTES)


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 16 and digits.lstrip("+-").isdigit() else float(digits)
