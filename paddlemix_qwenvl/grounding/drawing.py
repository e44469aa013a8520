"""Drawing what an answer points at onto the picture."""

import colorsys
import math
import unicodedata
import warnings
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from ..errors import GroundingError, MissingFontWarning
from ..media.images import upright
from ..media.pixels import on_white
from ..text import repair
from .fonts import covers, find_font
from .items import Item
from .placement import Box, LabelPlacement

_SHORT_SIDE, _LONG_SIDE = 336, 2048
_LABEL_SHARE, _LONGEST_LABEL = 0.5, 400
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_TONES = ((0.90, 1.00), (1.00, 0.72), (0.50, 1.00))


def draw(image: Image.Image, items: Sequence[Item], font: str | None = None) -> Image.Image:
    """A copy of `image` with every box, point and polygon of `items` and its label (its text, if it has no label).

    image: any Pillow image. It is turned upright first, as the model saw it, if its EXIF data say so. A picture whose short
        side is under 336 pixels is enlarged by a whole factor (as long as its long side stays within 2048), as its labels
        could not be read otherwise.
    items: from `parse`. With several pictures, pass those with the right `image`.
    font: path of a font file. By default each label is set in Pillow's own font or, where that lacks a character (Chinese,
        say), in one found on the system. If none has it, the number of the item stands in its place and a warning tells so.

    Raises GroundingError if `image` is no Pillow image or `font` cannot be read, MediaError for a picture in a mode that
    Pillow cannot show in colour.
    """
    if not isinstance(image, Image.Image):
        raise GroundingError(f"Expected a PIL.Image.Image to draw on, got {type(image).__name__}; open it with Pillow.")
    picture, factor = _canvas(image)
    pen = ImageDraw.Draw(picture)
    size = max(14, round(math.sqrt(picture.width * picture.height) / 48))
    line = max(2, size // 7)
    shapes = [[value * factor for value in item.coords] for item in items]
    for number, (item, coords) in enumerate(zip(items, shapes, strict=True)):
        _draw_shape(pen, item.kind, coords, line, colour(number))
    extents = [_extent(coords, line) for coords in shapes]
    placement = LabelPlacement(picture.size, extents)
    for number, (text, typeface) in enumerate(_labels(items, size, font)):
        if text:
            _draw_label(pen, text, typeface, colour(number), extents[number], placement)
    return picture


def colour(number: int) -> tuple[int, int, int]:
    """RGB of the item with this number. Hues step by the golden ratio, which keeps any run of them apart
    (M. Ankerl, "How to generate random colors programmatically", 2009), and three tones take turns."""
    saturation, value = _TONES[number % len(_TONES)]
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN_RATIO % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _canvas(image: Image.Image) -> tuple[Image.Image, int]:
    picture = on_white(upright(image))
    wanted = math.ceil(_SHORT_SIDE / min(picture.size))
    factor = max(1, min(wanted, _LONG_SIDE // max(picture.size)))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.LANCZOS)
    return picture, factor


def _draw_shape(pen: ImageDraw.ImageDraw, kind: str, coords: list[float], line: int, ink: tuple[int, int, int]):
    """The outline in `ink` on a slightly wider dark one, so that it shows on any picture."""
    for width, fill in ((line + 2, "black"), (line, ink)):
        if kind == "box":
            margin = (line + 2 - width) // 2
            left, top, right, bottom = coords
            right, bottom = max(left + 1, right), max(top + 1, bottom)
            inner = (left + margin, top + margin, right - 1 - margin, bottom - 1 - margin)
            if inner[0] <= inner[2] and inner[1] <= inner[3]:
                pen.rectangle(inner, outline=fill, width=width)
        elif kind == "point":
            x, y, radius = *coords, 2 * line + (width - line) / 2
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
        else:
            pen.line([*coords, *coords[:4]], fill=fill, width=width, joint="curve")


def _extent(coords: list[float], line: int) -> Box:
    """The box that a label is put next to."""
    xs, ys = coords[0::2], coords[1::2]
    margin = 3 * line if len(coords) == 2 else 0
    return min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin


def _labels(items: Sequence[Item], size: int, font: str | None) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """The label of each item, in one printable line, and the font to set it in."""
    chosen, default = None, ImageFont.load_default(size)
    if font is not None:
        try:
            chosen = ImageFont.truetype(font, size)
        except OSError as error:
            raise GroundingError(
                f"The font {font!r} cannot be read ({error}); pass a .ttf, .ttc or .otf file."
            ) from error
    labels, missing = [], set()
    for number, item in enumerate(items, 1):
        text = _printable((item.label or item.text)[:_LONGEST_LABEL])
        typeface = chosen if chosen and covers(chosen, text) else find_font(text, size)
        if typeface is None:
            missing.update(character for character in text if not covers(default, character))
            text, typeface = f"#{number}", default
        labels.append((text, typeface))
    if missing:
        sample = "".join(sorted(missing)[:20])
        warnings.warn(
            f"No font on this system has the characters {sample!r}, so labels with them are drawn as their item's number. "
            "Install one (Debian, Ubuntu: apt-get install fonts-noto-cjk or fonts-wqy-zenhei) or pass draw(..., font=path).",
            MissingFontWarning,
            stacklevel=3,
        )
    return labels


def _printable(text: str) -> str:
    text = repair(text).replace("\ufffd", "")
    words = "".join(" " if character.isspace() else character for character in text).split()
    return "".join(character for character in " ".join(words) if unicodedata.category(character)[0] != "C")


def _draw_label(
    pen: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont,
    ink: tuple[int, int, int],
    around: Box,
    placement: LabelPlacement,
):
    ascent, descent = font.getmetrics()
    padding = max(2, ascent // 6)
    room = max(pen.im.size[0] * _LABEL_SHARE, around[2] - around[0])
    text = _shorten(text, font, min(pen.im.size[0], room) - 2 * padding)
    width, height = math.ceil(font.getlength(text)) + 2 * padding, ascent + descent + padding
    left, top = placement.place(around, width, height)
    pen.rectangle((left, top, left + width, top + height), fill=ink)
    red, green, blue = ink
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140  # luma of ITU-R BT.601
    pen.text((left + padding, top + padding / 2), text, fill="black" if bright else "white", font=font)


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """`text`, or as much of its beginning as fits `width` pixels with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    short, long = 0, len(text)
    while short < long:
        middle = (short + long + 1) // 2
        if font.getlength(text[:middle] + "...") <= width:
            short = middle
        else:
            long = middle - 1
    return text[:short].rstrip() + "..."
