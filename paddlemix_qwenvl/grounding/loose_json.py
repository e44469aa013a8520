"""A reader for the JSON that language models write: fenced or bare, among prose, with trailing or missing commas, single
quotes, unquoted keys, or cut off in the middle.

Libraries that repair JSON close what is open and so turn a cut `[10, 20, 30, 4` into a box that the model never gave, and
none tells where in the text a value stood. This reader keeps what is whole, drops the rest and remembers places.
It goes through the text once, without recursion or backtracking: time grows with the length of the text alone.
"""

import json
import re
from bisect import bisect_right

_MAX_DEPTH = 64
_NOTHING = object()
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}

_OPENING = re.compile(r"[\[{]")
_TOKEN = re.compile(
    r"(?P<mark>[\[\](){},:])|(?P<number>[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<quote>[\"'])|(?P<word>\w+)|(?P<fence>```)"
)
# A quote ends a string only where something of JSON or the end of the line follows, so `"the "red" car"` is one string.
_END_OF_STRING = re.compile(r"(?<!\\)(?:\\\\)*([\"'])(?=[^\S\n]*(?:[,:}\])\n]|\Z))")
_BROKEN_STRING = re.compile(r"[^}\]\n]*")
_INNER_QUOTE = re.compile(r'(?<!\\)((?:\\\\)*)"')


class Object(dict):
    """A JSON object. `span` is (start, end) in the text it was read from; `whole` is False if anything in it was cut off."""

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
        elif self.named and self.pending is _NOTHING:
            self.pending = value
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
        self.container.whole = False
        if isinstance(self.container, Array):
            self.container[:] = [value for value in self.container if isinstance(value, (Object, Array))]
        elif not isinstance(self.pending, (Object, Array, str)):
            self.forget()
        return self.close(end)


def read(text: str) -> list[Object | Array]:
    """Every outermost object and array in `text`, in order. Never raises; a text without any gives an empty list."""
    return _Reader(text).run()


class _Reader:
    def __init__(self, text: str):
        self.text = text
        self.found: list[Object | Array] = []
        self.stack: list[_Frame] = []
        self.string_ends: dict[str, list[int]] = {'"': [], "'": []}
        for match in _END_OF_STRING.finditer(text):
            self.string_ends[match[1]].append(match.start(1))

    def run(self):
        at = 0
        while match := (_TOKEN if self.stack else _OPENING).search(self.text, at):
            at = match.end()
            kind = match.lastgroup or "mark"
            if kind == "mark":
                self._mark(match[0], match.start())
            elif kind == "quote":
                at = self._string(match[0], match.start())
            elif kind == "fence":
                self._unwind(match.start())
            else:
                self.stack[-1].add(_number(match[0]) if kind == "number" else _WORDS.get(match[0], match[0]))
        self._unwind(len(self.text))
        return self.found

    def _mark(self, mark: str, at: int):
        if mark in "[{(":
            if len(self.stack) < _MAX_DEPTH:
                self.stack.append(_Frame(Object() if mark == "{" else Array(), at))
        elif mark in "]})":
            self._close(Object if mark == "}" else Array, at + 1)
        elif mark == ",":
            self.stack[-1].commit()
        else:
            self.stack[-1].named = True

    def _close(self, kind: type, end: int):
        """Closes the innermost container of this kind, and what was left open in it; a bracket too many is ignored."""
        if not any(isinstance(frame.container, kind) for frame in self.stack):
            return
        while not isinstance((frame := self.stack.pop()).container, kind):
            frame.container.whole = False
            self._deliver(frame.close(end))
        self._deliver(frame.close(end))

    def _unwind(self, end: int):
        while self.stack:
            value = self.stack.pop().cut(end)
            if value:
                self._deliver(value)

    def _deliver(self, value):
        if self.stack:
            self.stack[-1].add(value)
        else:
            self.found.append(value)

    def _string(self, quote: str, start: int) -> int:
        """Reads the string that opens at `start` and returns where it ends; one that never closes ends at a bracket."""
        ends = self.string_ends[quote]
        nearest = bisect_right(ends, start)
        if nearest < len(ends) and self.text.find("\n", start, ends[nearest]) < 0:
            self.stack[-1].add(_unquote(self.text[start + 1 : ends[nearest]]))
            return ends[nearest] + 1
        self.stack[-1].container.whole = False
        match = _BROKEN_STRING.match(self.text, start + 1)
        if match.end() < len(self.text):
            self.stack[-1].add(match[0].strip())
        return match.end()


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 16 and digits.lstrip("+-").isdigit() else float(digits)


def _unquote(body: str) -> str:
    if "\\" not in body:
        return body
    try:
        return json.loads('"' + _INNER_QUOTE.sub(r'\1\\"', body.replace("\\'", "'")) + '"', strict=False)
    except ValueError:
        return body
