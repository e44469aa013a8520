"""The size a picture is given before it is cut into patches."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ..errors import MediaError
from .threads import thread_map

MAX_ASPECT_RATIO = 200
MIN_PIXELS = 56 * 56
MAX_PIXELS = 14 * 14 * 4 * 1280


def smart_resize(
    height: int,
    width: int,
    factor: int = 28,
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = MAX_PIXELS,
    *,
    smallest_side: int = 0,
) -> tuple[int, int]:
    """The (height, width) nearest to the given one whose sides are multiples of `factor` and whose area lies
    between `min_pixels` and `max_pixels`, with the aspect ratio kept as well as these allow.

    `smallest_side` bounds the rounded sides from below before the area is looked at: 0 in transformers, `factor` in
    qwen_vl_utils. It matters to sides under half a `factor` only.

    Source: `smart_resize` of transformers' Qwen2VLImageProcessor (4.51.3; sides under `factor` as from 4.52 on).
    Raises MediaError for an empty picture, an aspect ratio over 200, or `min_pixels` over `max_pixels`.
    """
    if height < 1 or width < 1:
        raise MediaError(f"A picture of {width} x {height} pixels is empty; both sides must be at least 1.")
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise MediaError(
            f"A picture of {width} x {height} pixels has an aspect ratio over {MAX_ASPECT_RATIO}; crop it or cut it up."
        )
    if min_pixels > max_pixels:
        raise MediaError(
            f"min_pixels ({min_pixels}) is over max_pixels ({max_pixels}); give a range that is not empty."
        )
    new_height = max(smallest_side, round(height / factor) * factor)
    new_width = max(smallest_side, round(width / factor) * factor)
    if new_height * new_width > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        new_height = math.floor(height / shrink / factor) * factor
        new_width = math.floor(width / shrink / factor) * factor
    elif new_height * new_width < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        new_height = math.ceil(height * grow / factor) * factor
        new_width = math.ceil(width * grow / factor) * factor
    return max(factor, new_height), max(factor, new_width)


def requested_size(
    element: Mapping[str, Any], height: int, width: int, factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """The (height, width) for a picture that a message's `element` asks for: its `resized_height` and
    `resized_width` where it has both, else the picture's own, between `min_pixels` and `max_pixels`.

    Source: `fetch_image` and `fetch_video` of qwen_vl_utils 0.0.14. Raises MediaError as `smart_resize` does.
    """
    if "resized_height" in element and "resized_width" in element:
        height, width = element["resized_height"], element["resized_width"]
        min_pixels, max_pixels = image_pixel_limits(factor)
    return smart_resize(height, width, factor, min_pixels, max_pixels, smallest_side=factor)


def image_pixel_limits(factor: int) -> tuple[int, int]:
    """The pixels an image may have where its message does not say: from 4 to 16384 tokens."""
    return 4 * factor**2, 16384 * factor**2


def resize_frame(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """An RGB picture at `size`, (width, height), as uint8 [H, W, 3].

    Source: torchvision's bicubic resize with antialiasing, which qwen_vl_utils gives video frames. Pillow does the same
    in float mode; in RGB it would round and clip between its two passes.
    """
    channels = thread_map(lambda band: band.convert("F").resize(size, Image.Resampling.BICUBIC), image.split())
    return np.stack([np.rint(channel).clip(0, 255) for channel in channels], axis=-1).astype(np.uint8)
