"""A font that has the characters of a label: Pillow's own, or one found on the system."""

import os
import sys
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

_PILLOWS_OWN = ""
_ABSENT = "\U0010ffff"  # never assigned, so a font draws its sign for a missing character
_WIDE = (
    "cjk",
    "hei",
    "song",
    "han",
    "yahei",
    "pingfang",
    "gothic",
    "ming",
    "unicode",
    "fallback",
    "dejavusans",
    "notosans",
)
_STYLED = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "condensed", "serif")


def _folders() -> list[Path]:
    """Where fonts are kept: the folders that Linux (XDG base directories), macOS and Windows document."""
    home = Path.home()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")
        return [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts", Path(local) / "Microsoft" / "Windows" / "Fonts"]
    if sys.platform == "darwin":
        return [home / "Library" / "Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    data_home = os.environ.get("XDG_DATA_HOME") or home / ".local" / "share"
    data = (os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")
    return [Path(data_home) / "fonts", home / ".fonts", *(Path(folder) / "fonts" for folder in data)]


@lru_cache(maxsize=1)
def _files() -> list[str]:
    """The font files of this system, those likely to hold many characters in a plain style first."""
    files = (
        path
        for folder in _folders()
        for path in folder.rglob("*")
        if path.suffix.lower() in (".ttf", ".ttc", ".otf") and path.is_file()
    )

    def rank(path: Path):
        name = path.name.lower().replace("-", "")
        return not any(part in name for part in _WIDE), any(part in name for part in _STYLED), name

    return [str(path) for path in sorted(files, key=rank)]


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> tuple:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def covers(font: ImageFont.FreeTypeFont, text: str) -> bool:
    """Whether `font` has a picture of its own for every character of `text` but blanks."""
    absent = _glyph(font, _ABSENT)
    return all(character.isspace() or _glyph(font, character) != absent for character in set(text))


def _load(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size) if path == _PILLOWS_OWN else ImageFont.truetype(path, size)


@lru_cache(maxsize=1024)
def _path(characters: str) -> str | None:
    """The first font that has all of `characters`, or None."""
    for path in (_PILLOWS_OWN, *_files()):
        try:
            if covers(_load(path, 24), characters):
                return path
        except OSError:  # a damaged file, or a bitmap font without this size
            continue
    return None


def find_font(text: str, size: int) -> ImageFont.FreeTypeFont | None:
    """A font of `size` pixels that has every character of `text`: Pillow's default if it does, else the first such one
    among the system's; None if there is none."""
    path = _path("".join(sorted(set(text))))
    return None if path is None else _load(path, size)
