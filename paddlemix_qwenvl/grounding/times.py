"""When something happens in a video, in seconds."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import GroundingError
from . import loose_json
from .text import check_text

_CLOCK = r"(?:(?P<h{0}>[0-9]{{1,3}}):)?(?P<m{0}>[0-9]{{1,4}}):(?P<s{0}>[0-9]{{2}}(?:\.[0-9]+)?)"
_UNITS = (
    r"(?!(?:1[89]|20)[0-9]0s)"  # a decade
    r"(?:(?P<um{0}>[0-9]{{1,4}})\s*(?:minutes?|mins?|m|分钟?)\s*(?:and\s+)?)?"
    r"(?P<us{0}>[0-9]{{1,7}}(?:\.[0-9]+)?)\s*(?:seconds?|secs?|s|秒)(?![a-zA-Z])"
)
_BARE = r"(?P<b{0}>[0-9]{{1,7}}(?:\.[0-9]+)?)"
_BEFORE, _AFTER = r"(?<![0-9.:])", r"(?![.:]?[0-9])"
_TO = r"\s*(?:-|–|—|~|～|to|until|till|and|至|到)\s*"


def _pattern(number: int, *forms: str) -> str:
    return _BEFORE + "(?:" + "|".join(form.format(number) for form in forms) + ")" + _AFTER


# In prose a bare number is a time only as the beginning of a range whose end has a unit: "64.0 - 72.0 seconds".
_PROSE = re.compile(
    rf"(?:{_pattern(0, _CLOCK, _UNITS, _BARE)}{_TO}{_pattern(1, _CLOCK, _UNITS)})|{_pattern(2, _CLOCK, _UNITS)}",
    re.IGNORECASE,
)
_VALUE = re.compile(
    rf"{_pattern(0, _CLOCK, _UNITS, _BARE)}(?:{_TO}{_pattern(1, _CLOCK, _UNITS, _BARE)})?", re.IGNORECASE
)
_MARKUP = " \t*_-–—:：,，.。;；|#>()[]"
_BULLET = re.compile(r"\s*(?:[0-9]{1,3}[.)、])?")
_LONGEST_LEAD = 40

_START_KEYS = ("start_time", "start", "begin", "from", "start_timestamp")
_END_KEYS = ("end_time", "end", "to", "end_timestamp")
_MOMENT_KEYS = ("timestamp", "time", "timestamps", "time_range", "segment", "interval")
_TEXT_KEYS = ("description", "caption", "event", "text", "label", "sentence", "activity", "content", "title")


@dataclass(frozen=True)
class Segment:
    """A stretch of a video, in seconds of the original; of a single moment `start` and `end` are the same.

    text: what the answer says of it, or "". raw: the part of the answer it was read from.
    """

    start: float
    end: float
    text: str = ""
    raw: str = ""


def parse_times(text: str, video_start: float = 0.0, video_end: float = math.inf) -> list[Segment]:
    """The times in an answer about a video, in the order of the text.

    text: understood are, mixed as the model likes, JSON with `start_time` and `end_time` (or `timestamp`), fenced or not,
        also cut off or malformed (see `loose_json`); `mm:ss.ff` and `hh:mm:ss`; `12.5 seconds`, `1 min 20 s`, `12秒`; and
        ranges of these. The digits after the point are a fraction of a second.
    video_start, video_end: seconds of the original at which the part that the model saw began and ended, if it was not the
        whole video; the model counts from that beginning. Times are clipped to this part.

    Raises GroundingError if the part is empty or `text` is no str, and nothing else.
    """
    if not 0 <= video_start < video_end:
        raise GroundingError(
            f"video_start {video_start!r} and video_end {video_end!r} are seconds with 0 <= video_start < video_end."
        )
    text = check_text(text)
    objects = [value for value in loose_json.read(text) for value in _objects(value)]
    found = [segment for value in objects for segment in _from_json(value)]
    found += _from_prose(text, [value.span for value in objects])
    return [_to_segment(text, *one, video_start, video_end) for one in sorted(found, key=lambda one: one[0])]


def _to_segment(text: str, span, times, label: str, video_start: float, video_end: float) -> Segment:
    start, end = (min(max(video_start + seconds, video_start), video_end) for seconds in sorted(times))
    return Segment(start, end, label, text[slice(*span)])


def _seconds(match: re.Match, number: int) -> float | None:
    """The seconds of time `number` in a match, or None if it has none."""
    groups = match.groupdict()

    def part(name):
        return float(groups.get(f"{name}{number}") or 0)

    if groups.get(f"m{number}"):
        return part("h") * 3600 + part("m") * 60 + part("s")
    if groups.get(f"us{number}"):
        return part("um") * 60 + part("us")
    return part("b") if groups.get(f"b{number}") else None


def _times(match: re.Match) -> tuple[float, float]:
    times = [seconds for seconds in (_seconds(match, number) for number in range(3)) if seconds is not None]
    return times[0], times[-1]


def _from_prose(text: str, json_spans: Sequence[tuple[int, int]]) -> Iterator[tuple]:
    spans = iter([*json_spans, (len(text), len(text))])
    start, end = next(spans)
    for match in _PROSE.finditer(text):
        while end <= match.start() and start < len(text):
            start, end = next(spans)
        if match.start() < start:
            yield match.span(), _times(match), _rest_of_line(text, match)


def _rest_of_line(text: str, match: re.Match) -> str:
    """What follows a time that begins its line, as in "**00:23.90 - 01:35.60:** They cut the meat"."""
    lead = text[max(0, match.start() - _LONGEST_LEAD) : match.start()]
    if "\n" not in lead and match.start() > _LONGEST_LEAD:
        return ""
    if _BULLET.sub("", lead.rpartition("\n")[2], count=1).strip(_MARKUP):
        return ""
    end = text.find("\n", match.end())
    return text[match.end() : end if end >= 0 else len(text)].lstrip(_MARKUP).rstrip(" \t*_|")


def _objects(value) -> Iterator[loose_json.Object]:
    """The outermost objects of a JSON value. An array without any may be prose: "[00:10 - 00:20] He jumps"."""
    if isinstance(value, loose_json.Object):
        yield value
    elif isinstance(value, loose_json.Array):
        for child in value:
            yield from _objects(child)


def _from_json(value: loose_json.Object) -> Iterator[tuple]:
    times = _span_of(value)
    if times:
        yield value.span, times, _first(value, _TEXT_KEYS)
        return
    for child in value.values():
        if isinstance(child, str) and value.whole:
            yield from ((value.span, _times(match), "") for match in _PROSE.finditer(child))
        for part in _objects(child):
            yield from _from_json(part)


def _span_of(value: loose_json.Object) -> tuple[float, float] | None:
    start, end = _first_time(value, _START_KEYS), _first_time(value, _END_KEYS)
    if start and end:
        return start[0], end[-1]
    if (start or end) and not value.whole:
        return None
    return start or end or _first_time(value, _MOMENT_KEYS)


def _first_time(value: loose_json.Object, keys: Sequence[str]) -> tuple[float, float] | None:
    return next((times for key in keys if (times := _time_of(value.get(key)))), None)


def _time_of(value) -> tuple[float, float] | None:
    """(start, end) of a JSON value: seconds, "mm:ss.ff", "start - end" or [start, end]."""
    if isinstance(value, list) and len(value) == 2:
        both = [_time_of(element) for element in value]
        return (both[0][0], both[1][1]) if all(both) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (float(value), float(value)) if 0 <= value < math.inf else None
    match = _VALUE.fullmatch(value.strip()) if isinstance(value, str) else None
    return _times(match) if match else None


def _first(value: loose_json.Object, keys: Sequence[str]) -> str:
    return next((value[key] for key in keys if isinstance(value.get(key), str)), "")
