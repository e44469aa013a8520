"""The characters of an answer: what is no text, and full-width signs."""

from ..errors import GroundingError
from ..text import repair

# "！" to "～" are the signs of ASCII on a wide cell (Unicode, Halfwidth and Fullwidth Forms).
_HALF_WIDTH = {wide: wide - 0xFEE0 for wide in range(ord("！"), ord("～") + 1) if chr(wide) not in "＂＇＼"}
_HALF_WIDTH[ord("、")] = ord(",")


def check_text(text) -> str:
    """`text`, repaired; raises GroundingError unless it is a str."""
    if not isinstance(text, str):
        raise GroundingError(
            f"Expected one answer as a str, got {type(text).__name__}; pass the items of a batch one by one."
        )
    return repair(text)


def half_width(text: str) -> str:
    """`text` with the signs, letters and digits of ASCII in place of their full-width forms, quotes and backslash apart.
    Each character stays where it is."""
    return text.translate(_HALF_WIDTH)
