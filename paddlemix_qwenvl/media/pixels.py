"""Pixels of whatever kind as RGB with 8 bits a channel, and pictures from arrays."""

import os
from typing import Any

import numpy as np
from PIL import Image

from ..errors import MediaError

SIXTEEN_BIT_FORMATS = ("PNG", "PPM")  # the mode I of their pictures holds 16 bits

KEY_TYPES = {"P": int | bytes, "RGB": tuple}  # of the colour that is transparent; an int in all other modes


def describe(source: Any) -> str:
    """A short name for a picture or a video, for messages."""
    if isinstance(source, np.ndarray):
        return f"array of shape {source.shape} and type {source.dtype}"
    if isinstance(source, Image.Image):
        return f"PIL image {source.mode} {source.width} x {source.height} {getattr(source, 'filename', '')}".rstrip()
    name = str(source) if isinstance(source, str | os.PathLike) else f"{source!s:.80}"
    return f"{name[:80]}..." if name[:5].lower() == "data:" else name


def on_white(image: Image.Image) -> Image.Image:
    """A copy in RGB: what is transparent, in whatever way, lies on white; other depths become 8 bits by `eight_bits`.

    Source: `to_rgb` of qwen_vl_utils 0.0.14, which does so for RGBA alone. Raises MediaError that names the range of
    values without a scale, and for modes without a way to RGB.
    """
    try:
        if "transparency" in image.info and not isinstance(image.info["transparency"], KEY_TYPES.get(image.mode, int)):
            image = image.copy()  # a band split off, say, which has still what its picture had
            del image.info["transparency"]
        if image.mode.startswith(("I", "F")):
            image = _grey(image)
        if not image.has_transparency_data:
            return image.convert("RGB")
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(layer, mask=layer)
        white.info = {name: value for name, value in image.info.items() if name != "transparency"}
        return white
    except Exception as error:  # palettes and transparent colours may be damaged in as many ways as files
        raise MediaError(f"Cannot read {describe(image)}: {error}") from error


def in_rgb(image: Image.Image) -> Image.Image:
    """As `on_white`, and without a copy where the picture is in RGB already."""
    return image if image.mode == "RGB" and not image.has_transparency_data else on_white(image)


def _grey(image: Image.Image) -> Image.Image:
    """A picture in 16 bits, 32 bits or floats, in L, or in LA where one of its values stands for transparent."""
    values = np.asarray(image)
    is_wide = image.mode == "I" and image.format in SIXTEEN_BIT_FORMATS
    grey = Image.fromarray(eight_bits(values.astype(np.uint16) if is_wide else values)[0])
    if "transparency" in image.info:
        grey.putalpha(Image.fromarray(values != image.info["transparency"]).convert("L"))
    grey.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return grey


def eight_bits(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Grey or colour values as uint8, and whether they were floats from 0 to 1.

    Booleans are black and white, and uint16 is scaled from 65535 to 255. Other integers are taken as they are up to 255
    and as 16 bits up to 65535. Floats are scaled where all are from 0 to 1, and rounded where all are from 0 to 255.
    Raises ValueError, naming the range, for all else.
    """
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b":
        return values * np.uint8(255), False
    if kind == "u" and size == 1:
        return values, False
    low, high = values.min(), values.max()
    if kind == "f" and 0 <= low <= high <= 1:  # cut as transformers does
        return (values.astype(np.float64) * 255).astype(np.float32).astype(np.uint8), True
    if (kind == "u" and size == 2) or (kind in "iu" and low >= 0 and 255 < high <= 65535):
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8), False
    if 0 <= low <= high <= 255:
        return np.rint(values).astype(np.uint8), False
    raise ValueError(
        f"values run from {low} to {high}; give whole numbers from 0 to 255 or, in 16 bits, to 65535, or floats from "
        "0 to 1 or to 255."
    )


def from_array(array: np.ndarray) -> tuple[Image.Image, bool]:
    """The picture in an array, and whether its values had to be scaled from [0, 1] to [0, 255].

    Source: `to_pil_image` and `infer_channel_dimension_format` of transformers 4.51.3's image utilities, which take
    three dimensions, 1 or 3 channels, and of the values those from 0 to 255 that are whole.
    Raises MediaError for arrays of other shapes and for values that `eight_bits` has no scale for.
    """
    values = array
    if values.ndim == 3 and values.shape[0] in (1, 3):
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    is_picture = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
    if not is_picture or values.size == 0 or values.dtype.kind not in "buif":
        raise MediaError(
            f"Cannot read {describe(array)}: expected numbers in [H, W], [H, W, C]"
            " with C of 1, 3 or 4, or [C, H, W] with C of 1 or 3."
        )
    try:
        pixels, scaled = eight_bits(values)
    except ValueError as error:
        raise MediaError(f"Cannot read {describe(array)}: {error}") from error
    return Image.fromarray(np.ascontiguousarray(pixels)), scaled
