"""Qwen2.5-VL's document parsing: HTML with a `data-bbox` on every element -> blocks in the picture's own pixels.

The format is that of the Qwen2.5-VL technical report (arXiv 2502.13923, section 2.2.1, "QwenVL HTML format") and of the
cookbook `document_parsing.ipynb`. lxml reads it: libxml2 makes a tree of any input, in C, and is kept up; html5lib, which
follows the standard to the letter, is pure Python and has had no release since 2020.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree
from lxml.html import defs

from .geometry import Size, check_size, ordered_box, to_original
from .items import Item
from .text import check_text

Rows = tuple[tuple[str, ...], ...]

_FENCED = re.compile(
    r"```[a-zA-Z]*[ \t]*\n?(.*?)(?:(?<=</html>)\s*```|\n[ \t]*```[ \t]*(?=\n|\Z)|\s*```\s*\Z|\Z)", re.DOTALL
)
# "a<b" of a formula is no tag, and neither is a tag that the end of the answer cut off.
_NO_TAG = re.compile(
    rf"<(?!!--|!doctype|\?|/?(?:{'|'.join(sorted({*defs.tags, 'main'}))})(?:\s*/?>|\s+[a-z][a-z0-9_:-]*\s*=))",
    re.IGNORECASE,
)
_CUT_TAG = re.compile(r"<[/!]?[a-zA-Z][^<>]*\Z")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_MATH_SIGNS = re.compile(r"^(?:\$\$?|\\\[|\\\()\s*|\s*(?:\$\$?|\\\]|\\\))$")
_CLASSES = {
    **{"music": "music", "chemical": "chemistry", "formula": "formula"},
    **{"chart": "chart", "image": "image", "table": "table"},
}
_TAGS = {
    **{f"h{level}": "heading" for level in range(1, 7)},
    **dict.fromkeys(("p", "blockquote", "dt", "dd", "figcaption"), "paragraph"),
    **{"li": "list_item", "table": "table", "pre": "code", "img": "image"},
}
_LINES = frozenset(["br", "div", "tr", "ul", "ol", "section", *_TAGS])
_INLINE = defs.phrase_tags | defs.font_style_tags | defs.special_inline_tags - {"img", "br"}
_MAX_COLUMNS = 200


@dataclass(frozen=True)
class Block:
    """One element of a page.

    type: "heading", "paragraph", "list_item", "table", "chart", "formula", "image", "music", "chemistry" or "code"; an
        element of a class of its own ("header", "signature", ...) has the class as its type.
    text: what it says: LaTeX of a formula, ABC notation of music, SMILES of a chemical formula, the caption of an image or
        the text in it; tabs and line ends separate the cells of a table.
    box: (left, top, right, bottom) in the picture's own pixels, or None where the answer gives none.
    order: its place in reading order, from 0.
    level: 1 to 6 of a heading, the number of an item in an ordered list, else 0.
    rows: the cells of a table or chart; a cell that spans several places is repeated in each.
    """

    type: str
    text: str
    box: tuple[float, float, float, float] | None
    order: int
    level: int = 0
    rows: Rows = ()

    def as_item(self) -> Item:
        """The block as `draw` takes it, for one that has a box; its label is its place in reading order and its type."""
        return Item("box", f"{self.order + 1} {self.type}", self.box, text=self.text)


def parse_document(html: str, original_size: Size, resized_size: Size) -> list[Block]:
    """The blocks of a page in reading order.

    html: an answer in QwenVL HTML or in ordinary HTML, fenced or not, also cut off or malformed; what can be read is kept.
    original_size, resized_size: (width, height) of the page's picture, upright, as the user gave it and as the model saw it.

    Boxes are mapped to the original, clipped to it and put in order. Raises GroundingError for sizes that are none or an
    `html` that is no str, and nothing else.
    """
    original, resized = check_size("original_size", original_size), check_size("resized_size", resized_size)
    root = _tree(check_text(html))
    if root is None:
        return []
    numbers = Counter()
    blocks: list[Block] = []
    stray = False
    for element, kind, loose in _elements(root):
        if element is None:
            if stray:
                loose = f"{blocks.pop().text} {loose}"
            blocks.append(Block("paragraph", loose, None, len(blocks)))
        else:
            box = _box(element, original, resized)
            rows = _rows(element) if kind in ("table", "chart") else ()
            text = _block_text(element, kind, rows)
            if not (text or box or rows or kind == "image"):
                continue
            blocks.append(Block(kind, text, box, len(blocks), _level(element, kind, numbers), rows))
        stray = element is None
    return blocks


def _tree(html: str):
    source = "\n".join(_FENCED.findall(html)).strip() or html.replace("```", "")
    source = _NO_TAG.sub("&lt;", _CUT_TAG.sub("", source))
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(source.replace("\0", "\ufffd").encode(), parser)
    except etree.XMLSyntaxError:  # nothing but blanks
        return None
    if root is not None:
        etree.strip_elements(root, "style", "script", "head", with_tail=False)
    return root


def _elements(root) -> Iterator[tuple]:
    """(element, type, "") of every outermost element that is a block, and (None, "", text) for each stray bit of text."""
    walker = etree.iterwalk(root, events=("start", "end"))
    for event, element in walker:
        loose = element.text
        if event == "end":
            loose = element.tail if element is not root else ""
        elif kind := _type(element):
            walker.skip_subtree()
            yield element, kind, ""
            continue
        elif element.tag in _INLINE and not _holds_blocks(element):
            walker.skip_subtree()
            loose = _text(element)
        if loose := _tidy(loose):
            yield None, "", loose


def _type(element) -> str:
    """The type of the block that `element` is, or "" if it only holds others or is a bit of text."""
    name = " ".join(element.get("class", "").lower().split())
    for prefix, kind in _CLASSES.items():
        if name.startswith(prefix) and (kind != "table" or next(element.iter("table"), None) is not None):
            return kind
    kind = _TAGS.get(element.tag, "")
    if kind in ("paragraph", "list_item"):
        only_image = next(element.iter("img"), None) is not None and not "".join(element.itertext()).strip()
        return "image" if only_image else kind
    if kind:
        return kind
    has_box = element.get("data-bbox") is not None
    if _holds_blocks(element) or (not has_box and element.tag in ("html", "body", *_INLINE)):
        return ""
    return name if name and has_box else "paragraph"


def _holds_blocks(element) -> bool:
    return any(part.tag in _TAGS or part.get("data-bbox") for part in element.iterdescendants())


def _level(element, kind: str, numbers: Counter) -> int:
    if kind == "heading" and element.tag in _TAGS:
        return int(element.tag[1])
    parent = element.getparent() if kind == "list_item" else None
    if parent is not None and parent.tag == "ol":
        numbers[parent] += 1
        return numbers[parent]
    return 0


def _box(element, original: Size, resized: Size):
    """The box of `element`, or the one around those of its parts if it has none of its own."""
    own = element.get("data-bbox") or element.get("data-polygon")
    texts = [own] if own else [part.get("data-bbox", "") for part in element.iter()]
    coords: list[float] = []
    for text in texts:
        numbers = [float(number) for number in _NUMBER.findall(text)]
        if len(numbers) >= 4 and len(numbers) % 2 == 0 and all(map(math.isfinite, numbers)):
            coords += numbers
    return ordered_box(to_original(coords, original, resized)) if coords else None


def _tidy(text: str | None) -> str:
    """Single blanks between words, and no empty lines."""
    lines = (" ".join(line.split()) for line in (text or "").split("\n"))
    return "\n".join(line for line in lines if line)


def _text(element) -> str:
    """The text of `element`, with the line ends that HTML means rather than those it was written with."""
    pieces = []
    for event, part in etree.iterwalk(element, events=("start", "end")):
        inner = part.text if event == "start" else part.tail if part is not element else ""
        if part.tag in _LINES and part is not element:
            pieces.append("\n")
        pieces.append(" ".join((inner or "").split("\n")))
    return _tidy("".join(pieces))


def _block_text(element, kind: str, rows: Rows) -> str:
    if rows:
        return "\n".join("\t".join(cell.replace("\n", " ") for cell in row) for row in rows)
    if kind in ("code", "music"):
        return "".join(element.itertext()).strip("\n").rstrip()
    text = _text(element)
    if kind == "formula":
        return _MATH_SIGNS.sub("", text)
    if kind == "image" and not text:
        return next((_tidy(part.get("alt")) for part in element.iter("img") if part.get("alt")), "")
    return text


def _rows(element) -> Rows:
    """The cells of the first table in `element`, with cells that span rows or columns repeated."""
    table = next(element.iter("table"), None)
    if table is None:
        return ()
    below: dict[int, tuple[str, int]] = {}  # column -> text and number of rows it still reaches down
    rows = []
    for line in table.iter("tr"):
        if next(line.iterancestors("table")) is not table:
            continue
        row: list[str] = []
        for cell in line.iterchildren("td", "th"):
            _fill(row, below)
            text, down = _text(cell), _span(cell, "rowspan")
            for _ in range(min(_span(cell, "colspan"), _MAX_COLUMNS - len(row))):
                if down > 1:
                    below[len(row)] = (text, down)
                row.append(text)
        _fill(row, below)
        below = {column: (text, down - 1) for column, (text, down) in below.items() if down > 1}
        rows.append(tuple(row))
    width = max(map(len, rows), default=0)
    return tuple(row + ("",) * (width - len(row)) for row in rows) if width else ()


def _fill(row: list[str], below: dict[int, tuple[str, int]]):
    """Puts what reaches down from the rows above into the next places of `row`."""
    while len(row) in below and below[len(row)][1] > 0:
        row.append(below[len(row)][0])


def _span(cell, name: str) -> int:
    digits = (cell.get(name) or "").strip()
    return max(1, int(digits)) if re.fullmatch("[0-9]{1,4}", digits) else 1
