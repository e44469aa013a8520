"""Boxes, points and polygons in an answer's text, in the pixels of the pictures that the user gave."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import loose_json
from .geometry import Size, check_sizes, ordered_box, to_original
from .images import assign_pictures, named_picture, picture_key
from .text import check_text, half_width

TAG_GRID = (1000, 1000)

_NUMBER = r"[-+]?[0-9]+(?:\.[0-9]+)?"
_NUMBERS = re.compile(_NUMBER)
_ANY_TAG = r"</?(?:ref|box|quad)>|<\|(?:object_ref|box|quad)_(?:start|end)\|>"
_TAG = re.compile(
    r"(?:<(?P<plain>ref|box|quad)>|<\|(?P<special>object_ref|box|quad)_start\|>)"
    rf"(?P<body>(?:(?!{_ANY_TAG})[\s\S])*)(?P<end></(?P=plain)>|<\|(?P=special)_end\|>)?"
)
_WHOLE_PAIRS = re.compile(rf"(?:[\s,]*\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\))*")
_POINTS = re.compile(
    r"<points?\b(?P<attributes>[^<>]*)>(?:(?P<phrase>(?:(?!</?points?\b)[\s\S])*)</points?>|(?P<unclosed>[^<]*))"
)
_POINT_ATTRIBUTE = re.compile(rf"""\b([xy])([0-9]{{0,4}})\s*=\s*["'“”]?\s*({_NUMBER})""")
_ALT_ATTRIBUTE = re.compile(r"""\balt\s*=\s*(["'“])(.*?)["'”](?=\s*/?\s*(?:\Z|\w+\s*=))""", re.DOTALL)
_LINE = re.compile(
    rf"^[ \t]*(?:[-*][ \t]+)?(?P<box>{_NUMBER}(?:[ \t]*,[ \t]*{_NUMBER}){{3}})[)\]]?(?:[ \t]+(?P<label>[^\n]*))?$",
    re.MULTILINE,
)
_TAG_SHAPES = {"box": ("box", 4), "quad": ("polygon", 8)}
_BETWEEN_BOXES = re.compile(r"[\s,;:()，；：（）、]*")

_KINDS = {
    **dict.fromkeys(("bbox_2d", "bbox", "box_2d", "box"), "box"),
    **dict.fromkeys(("point_2d", "point", "points"), "point"),
    **dict.fromkeys(("polygon", "polygon_2d", "quad", "quad_2d"), "polygon"),
}
_LABEL_KEYS = ("label", "name", "category", "class")
_TEXT_KEYS = ("text_content", "text")


@dataclass(frozen=True)
class Item:
    """One thing that an answer points at.

    kind: "box", "point" or "polygon".
    label: what the answer calls it, or "".
    coords: in the picture's own pixels, clipped to it: (left, top, right, bottom) of a box, (x, y) of a point,
        (x1, y1, x2, y2, ...) of a polygon. 0 is the picture's left or upper border, its width or height the other one.
    image: index of the picture among those of the prompt.
    raw: the part of the answer it was read from.
    text: what is written there, where the answer says so (`text_content`), or "".
    """

    kind: str
    label: str
    coords: tuple[float, ...]
    image: int = 0
    raw: str = ""
    text: str = ""


@dataclass
class _Found:
    """A shape as the answer has it: `grid` is what its coordinates are counted on (None: the resized picture),
    `picture` the number that the answer itself gives its picture, `group` the outermost array it stands in."""

    start: int
    end: int
    kind: str
    coords: tuple[float, ...]
    label: str = ""
    text: str = ""
    grid: Size | None = None
    picture: int | None = None
    group: int | None = None


def parse(text: str, original_sizes: Sequence[Size], resized_sizes: Sequence[Size], first: int = 0) -> list[Item]:
    """Everything an answer points at, in the order of the text.

    text: one answer of any family. Understood are, anywhere in it and mixed with prose:
        - JSON, fenced or not, one object or many, also cut off or malformed (see `loose_json`), with `bbox_2d`,
          `point_2d` or `polygon`, `label` and `text_content`; several shapes under one key; a bare list of four numbers;
        - `x1,y1,x2,y2 label` on a line of its own;
        - `<points x1=".." y1=".." alt="..">label</points>`;
        - Qwen-VL's `<ref>label</ref><box>(x1,y1),(x2,y2)</box>` and `<quad>`, and Qwen2-VL's `<|object_ref_start|>`,
          `<|box_start|>` and `<|quad_start|>` with their `_end`, on a grid of 0 to 1000 over the picture, several shapes
          after one label, a point as a box of one pair, the last tag not closed. Decode with `skip_special_tokens=False`,
          or by the processor's `post_process`: a tokenizer drops these tags.
          Source: `draw_bbox_on_latest_picture` in Qwen-VL-Chat's tokenization_qwen.py; arXiv:2409.12191, section 2.2.1.
        All but the tags count in pixels of the resized picture, as Qwen2.5-VL does.
    original_sizes, resized_sizes: (width, height) of each picture of the prompt, upright (after its EXIF rotation), as the
        user gave it and as the model saw it. The processor returns both.
    first: index of the first picture that was shown with the question: it is meant where the answer names none.

    Which picture a shape belongs to is settled by `images.assign_pictures`.

    What cannot be read is left out, so the list may be empty; coordinates are clipped to the picture and put in order. Labels
    keep all that is in them, line ends, quotes and LaTeX too. Signs may be full-width. Surrogates in `text` are repaired.
    Raises GroundingError for sizes that do not fit each other or a text that is no str, and nothing else.
    """
    sizes = check_sizes(original_sizes, resized_sizes)
    rest = text = check_text(text)
    found: list[_Found] = []
    for reader in (_from_tags, _from_points, _from_json, _from_lines):
        rest = reader(rest, found)
    found = [one for one in found if all(map(math.isfinite, one.coords))]
    found.sort(key=lambda one: one.start)
    pictures = assign_pictures(rest, [(one.start, one.picture, one.group) for one in found], len(sizes), first)
    return [
        _to_item(text, one, picture, *sizes[picture])
        for one, picture in zip(found, pictures, strict=True)
        if picture is not None
    ]


def _to_item(text: str, found: _Found, picture: int, original: Size, resized: Size) -> Item:
    coords = to_original(found.coords, original, found.grid or resized)
    if found.kind == "box":
        coords = ordered_box(coords)
    return Item(found.kind, found.label, coords, picture, text[found.start : found.end], found.text)


def _blank(text: str, spans: list[tuple[int, int]]) -> str:
    """`text` with the `spans` (in order, apart) made spaces, so that the next reader does not read them again."""
    pieces, at = [], 0
    for start, end in spans:
        pieces += text[at:start], " " * (end - start)
        at = end
    return "".join([*pieces, text[at:]])


def _from_tags(text: str, found: list[_Found]) -> str:
    spans = []
    label, label_end = "", -1
    for match in _TAG.finditer(text):
        tag, body, end = match["plain"] or match["special"], match["body"], match.end()
        if tag in ("ref", "object_ref"):
            label, label_end = body.strip(), end
            spans += [match.span()] if match["end"] else []
            continue
        if not _BETWEEN_BOXES.fullmatch(text, label_end, match.start()):
            label = ""
        shapes, end = _tag_shapes(match, *_TAG_SHAPES[tag])
        for kind, coords in shapes:
            found.append(_Found(match.start(), end, kind, coords, label, grid=TAG_GRID))
        if shapes or match["end"]:
            spans.append((match.start(), end))
        label_end = end
    return _blank(text, spans)


def _tag_shapes(match: re.Match, kind: str, step: int) -> tuple[list[tuple[str, tuple[float, ...]]], int]:
    """The shapes in a tag, and where it ends: a lone pair is a point, and a box tag may hold several boxes. A tag that is not
    closed ends with its last whole pair, and may be cut off: a lone pair is half a box there."""
    if match["end"]:
        numbers, end = _numbers(match["body"]), match.end()
        if len(numbers) == 2:
            return [("point", numbers)], end
        count = 0 if len(numbers) % step else len(numbers)
    else:
        whole = _WHOLE_PAIRS.match(half_width(match["body"]))[0]
        numbers, end = _numbers(whole), match.start("body") + len(whole)
        count = len(numbers) // step * step
    return [(kind, numbers[i : i + step]) for i in range(0, count, step)], end


def _from_points(text: str, found: list[_Found]) -> str:
    spans = []
    for match in _POINTS.finditer(text):
        spans.append(match.span())
        attributes = {
            axis + index: float(value) for axis, index, value in _POINT_ATTRIBUTE.findall(match["attributes"])
        }
        alt = _ALT_ATTRIBUTE.search(match["attributes"])
        label = (match["phrase"] or match["unclosed"] or "").strip() or (alt[2] if alt else "")
        for name, x in attributes.items():
            if name[0] == "x" and "y" + name[1:] in attributes:
                found.append(_Found(*match.span(), "point", (x, attributes["y" + name[1:]]), label))
    return _blank(text, spans)


def _from_lines(text: str, found: list[_Found]) -> str:
    spans = []
    for match in _LINE.finditer(half_width(text)):
        spans.append(match.span())
        label = text[slice(*match.span("label"))] if match["label"] else ""
        found.append(_Found(*match.span(), "box", _numbers(match["box"]), label.strip()))
    return _blank(text, spans)


def _from_json(text: str, found: list[_Found]) -> str:
    values = loose_json.read(text)
    for group, value in enumerate(values):
        shapes = _walk(value, "", None)
        for shape in shapes:
            shape.group = group if isinstance(value, loose_json.Array) else None
            found.append(shape)
    return _blank(text, [value.span for value in values])


def _walk(value, name: str, picture: int | None) -> Iterator[_Found]:
    """The shapes in a JSON value. `name` is the key it stands under: it labels a shape that has no label of its own."""
    if isinstance(value, loose_json.Object):
        yield from _walk_object(value, name, picture)
    elif isinstance(value, loose_json.Array):
        row = [child for child in value if not isinstance(child, (loose_json.Object, loose_json.Array))]
        if len(numbers := _numbers(row)) == 4:
            yield _Found(*value.span, "box", numbers, name, picture=picture)
        for child in value:
            yield from _walk(child, name if isinstance(child, loose_json.Array) else "", picture)


def _walk_object(value: loose_json.Object, name: str, picture: int | None) -> Iterator[_Found]:
    own = picture_key(value)
    picture = picture if own is None else own
    label, text = _first(value, _LABEL_KEYS) or name, _first(value, _TEXT_KEYS)
    has_shape = False
    for key, child in value.items():
        for kind, coords in _shapes(child, _KINDS[key]) if key in _KINDS else ():
            has_shape = True
            yield _Found(*value.span, kind, coords, label, text, picture=picture)
    for key, child in value.items():
        if key in _KINDS or (has_shape and _numbers(child)):
            continue
        number = named_picture(key)
        yield from _walk(child, "" if number is not None else key, picture if number is None else number)


def _first(value: loose_json.Object, keys: Sequence[str]) -> str:
    for key in keys:
        if isinstance(value.get(key), (str, int, float)):
            return str(value[key])
    return ""


def _numbers(value) -> tuple[float, ...]:
    """The numbers of a flat list, or of a string such as "(1,2),(3,4)"; empty for anything else."""
    if isinstance(value, str):
        return tuple(float(number) for number in _NUMBERS.findall(half_width(value)))
    if not isinstance(value, list):
        return ()
    numbers = []
    for element in value:
        if isinstance(element, str) and _NUMBERS.fullmatch(number := half_width(element.strip())):
            element = float(number)
        if isinstance(element, bool) or not isinstance(element, (int, float)):
            return ()
        numbers.append(element)
    return tuple(numbers)


def _shapes(value, kind: str) -> list[tuple[str, tuple[float, ...]]]:
    """The shapes in the value of a coordinate key, in every nesting the models use: [x1, y1, x2, y2], [[x1, y1], [x2, y2]],
    a list of corners, a list of boxes."""
    if numbers := _numbers(value):
        return _shape(numbers, kind)
    if not isinstance(value, list):
        return []
    rows = [_numbers(row) for row in value]
    if kind != "point" and all(len(row) == 2 for row in rows):
        return _shape(tuple(number for row in rows for number in row), kind)
    return [shape for row in rows for shape in _shape(row, kind)]


def _shape(numbers: tuple[float, ...], kind: str) -> list[tuple[str, tuple[float, ...]]]:
    count = len(numbers)
    if kind == "box" and count == 4:
        return [("box", numbers)]
    if count % 2:
        return []
    if kind == "point" or count == 2:
        return [("point", numbers[i : i + 2]) for i in range(0, count, 2)]
    return [("polygon", numbers)] if count >= 6 else []
