"""From the grid a model counts on to the pixels of the picture the user gave.

Coordinates are edges, not pixel centres: 0 is the left (upper) border of the picture and its width (height) the right
(lower) one, as in Pillow's `resize` and `crop`. A resize from (w, h) to (rw, rh) thus takes x to x * rw / w, and back.
"""

from collections.abc import Sequence
from itertools import cycle
from numbers import Real

from ..errors import GroundingError

Size = tuple[int, int]


def check_size(name: str, size) -> Size:
    """`size` as (width, height); raises GroundingError if it is anything but two positive numbers."""
    try:
        width, height = size
        valid = isinstance(width, Real) and isinstance(height, Real) and 0 < width < 1e9 and 0 < height < 1e9
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise GroundingError(f"{name} is {size!r}; expected (width, height), two positive numbers of pixels.")
    return width, height


def check_sizes(original_sizes: Sequence[Size], resized_sizes: Sequence[Size]) -> list[tuple[Size, Size]]:
    """[(original, resized), ...], one pair an image; raises GroundingError if the two lists do not fit each other."""
    originals, resized = list(original_sizes), list(resized_sizes)
    if not originals or len(originals) != len(resized):
        raise GroundingError(
            f"Got {len(originals)} original sizes and {len(resized)} resized sizes; expected one of each for every "
            "image of the prompt, in the prompt's order. The processor returns both lists."
        )
    return [
        (check_size(f"original_sizes[{i}]", a), check_size(f"resized_sizes[{i}]", b))
        for i, (a, b) in enumerate(zip(originals, resized, strict=True))
    ]


def to_original(coords: Sequence[float], original: Size, grid: Size) -> tuple[float, ...]:
    """Maps flat (x, y, x, y, ...) counted on `grid` (width, height) to pixels of `original`, clipped to the picture and
    rounded to a hundredth of a pixel."""
    return tuple(
        round(min(max(value * full / cells, 0.0), float(full)), 2)
        for value, full, cells in zip(coords, cycle(original), cycle(grid), strict=False)
    )


def ordered_box(coords: Sequence[float]) -> tuple[float, float, float, float]:
    """The box (left, top, right, bottom) around the flat points `coords`, whichever corners were named first."""
    xs, ys = coords[0::2], coords[1::2]
    return min(xs), min(ys), max(xs), max(ys)
