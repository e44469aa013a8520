"""Pictures from wherever they are: files, addresses, data URIs, PIL images, arrays."""

import os
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..errors import MediaError
from .fetch import open_source
from .pixels import describe, from_array

TIMEOUT = 30.0
MAX_BYTES = 256 << 20

# What a PNG's pixels are multiplied by to have 8 bits, which Pillow leaves out for the colour that is transparent.
KEY_SCALES = {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}

ImageSource = str | os.PathLike | Image.Image | np.ndarray


def load_image(
    source: ImageSource,
    *,
    timeout: float = TIMEOUT,
    max_bytes: int = MAX_BYTES,
    max_pixels: int | None = None,
) -> Image.Image:
    """A decoded picture, turned upright as its EXIF orientation says; of an animation, the first frame.

    `source` is a path, a file:// or http(s) address, a base64 data URI, a PIL image, or an array [H, W], [H, W, C] with
    1, 3 or 4 channels or [C, H, W] with 1 or 3, of values as `eight_bits` takes them. The mode stays the file's own.

    `timeout` (seconds) and `max_bytes` bound a download, `max_pixels` the decoded picture. Pillow's own cap,
    `PIL.Image.MAX_IMAGE_PIXELS` at the time of the call, stands beside it: a file over it is warned of, one over twice
    is refused, and None lifts it.
    Raises MediaError, naming the source, for what cannot be fetched or decoded, is truncated, empty or over a cap.
    """
    with open_image(source, timeout, max_bytes) as picture:
        return read_image(picture, source, max_pixels)


def open_image(
    source: ImageSource, timeout: float, max_bytes: int
) -> AbstractContextManager[BinaryIO | Image.Image | np.ndarray]:
    """The encoded picture as an open file; a PIL image or an array as it is. Raises MediaError."""
    if isinstance(source, Image.Image | np.ndarray):
        return nullcontext(source)
    return open_source(source, timeout=timeout, max_bytes=max_bytes)


def read_image(
    picture: BinaryIO | Image.Image | np.ndarray, source: ImageSource, max_pixels: int | None
) -> Image.Image:
    """The picture that `open_image` opened, decoded and upright. Raises MediaError that names `source`."""
    if isinstance(picture, np.ndarray):
        return from_array(picture)[0]
    return upright(decode(picture, source, max_pixels))


def decode(picture: BinaryIO | Image.Image, source: ImageSource, max_pixels: int | None = None) -> Image.Image:
    """A picture with its pixels in memory, not turned. Raises MediaError that names `source`."""
    try:
        image = picture if isinstance(picture, Image.Image) else Image.open(picture)
        if max_pixels is not None and image.width * image.height > max_pixels:
            raise ValueError(f"{image.width} x {image.height} pixels are over the cap of {max_pixels}; shrink it.")
        if not image.width * image.height:
            raise ValueError("it is empty; both sides must be at least 1 pixel.")
        _scale_key(image)
        image.load()
        return image
    except UnidentifiedImageError as error:
        raise MediaError(f"Cannot read {describe(source)}: it is no picture of a kind that Pillow knows.") from error
    except Image.DecompressionBombError as error:
        raise MediaError(
            f"Cannot read {describe(source)}: {error} Shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS, which is half of "
            "this limit, or set it to None; max_pixels (max_image_pixels of messages) can only lower it."
        ) from error
    except Exception as error:  # Pillow's decoders raise nearly every built-in exception on damaged files
        raise MediaError(f"Cannot read {describe(source)}: {error}") from error


def _scale_key(image: Image.Image) -> None:
    """Gives the transparent colour of a PNG that is not loaded yet the depth that its pixels will have."""
    key = image.info.get("transparency")
    scale = KEY_SCALES.get(image.tile[0][3]) if image.format == "PNG" and image.tile else None
    if scale and key is not None:
        image.info["transparency"] = int(key * scale) if image.mode == "L" else tuple(int(v * scale) for v in key)


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says."""
    with suppress(Exception):  # damaged metadata does not cost the picture
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            return ImageOps.exif_transpose(image)
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB as Pillow, and with it transformers 4.51.3 and Qwen-VL, convert it: transparency is dropped and
    values over 255 are cut, where `on_white` keeps what people see. A picture in RGB is returned itself. Raises MediaError for
    modes without a way."""
    try:
        return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:  # as in `on_white`
        raise MediaError(f"Cannot read {describe(image)}: {error}") from error
