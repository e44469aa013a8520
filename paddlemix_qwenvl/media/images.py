"""Pictures from wherever they are: files, addresses, data URIs, PIL images, arrays."""

import io
import os
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..errors import MediaError
from .fetch import decode_data_uri, download, is_url, open_local

TIMEOUT = 30.0
MAX_BYTES = 256 << 20
MAX_DECODED_PIXELS = Image.MAX_IMAGE_PIXELS

ImageSource = str | os.PathLike | Image.Image | np.ndarray


def load_image(
    source: ImageSource,
    *,
    timeout: float = TIMEOUT,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_DECODED_PIXELS,
) -> Image.Image:
    """A decoded picture, turned upright as its EXIF orientation says; of an animation, the first frame.

    `source` is a path, a file:// or http(s) address, a base64 data URI, a PIL image, or an array [H, W], [H, W, C] with
    1, 3 or 4 channels or [C, H, W] with 1 or 3, integers from 0 to 255 or floats from 0 to 1. The mode
    stays the file's own.

    `timeout` (seconds) and `max_bytes` bound a download, `max_pixels` the decoded picture; caps beyond Pillow's own
    need `PIL.Image.MAX_IMAGE_PIXELS` raised too.
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
    if not isinstance(source, str | os.PathLike):
        raise MediaError(f"{type(source).__name__} is no picture; give a path, an address, a PIL image or an array.")
    name = os.fsdecode(source)
    if name.startswith("data:"):
        return io.BytesIO(decode_data_uri(name))
    if is_url(name):
        buffer = io.BytesIO()
        download(name, buffer, timeout=timeout, max_bytes=max_bytes)
        buffer.seek(0)
        return buffer
    return open_local(name)


def read_image(picture: BinaryIO | Image.Image | np.ndarray, source: ImageSource, max_pixels: int) -> Image.Image:
    """The picture that `open_image` opened, decoded and upright. Raises MediaError that names `source`."""
    if isinstance(picture, np.ndarray):
        return from_array(picture)[0]
    return upright(decode(picture, source, max_pixels))


def describe(source: Any) -> str:
    """A short name for a picture or a video, for messages."""
    if isinstance(source, np.ndarray):
        return f"array of shape {source.shape} and type {source.dtype}"
    if isinstance(source, Image.Image):
        return f"PIL image {source.mode} {source.width} x {source.height} {getattr(source, 'filename', '')}".rstrip()
    return f"{str(source)[:80]}..." if str(source).startswith("data:") else str(source)


def decode(picture: BinaryIO | Image.Image, source: ImageSource, max_pixels: int) -> Image.Image:
    """A picture with its pixels in memory, not turned. Raises MediaError that names `source`."""
    try:
        image = picture if isinstance(picture, Image.Image) else Image.open(picture)
        if image.width * image.height > max_pixels:
            raise ValueError(f"{image.width} x {image.height} pixels are over the cap of {max_pixels}; shrink it.")
        if not image.width * image.height:
            raise ValueError("it is empty; both sides must be at least 1 pixel.")
        image.load()
        return image
    except UnidentifiedImageError as error:
        raise MediaError(f"Cannot read {describe(source)}: it is no picture of a kind that Pillow knows.") from error
    except Exception as error:  # Pillow's decoders raise nearly every built-in exception on damaged files
        raise MediaError(f"Cannot read {describe(source)}: {error}") from error


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says."""
    with suppress(Exception):  # damaged metadata does not cost the picture
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            return ImageOps.exif_transpose(image)
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB as Pillow converts it: transparency is dropped. Raises MediaError for modes without a way."""
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise MediaError(f"Cannot read {describe(image)}: {error}") from error


def from_array(array: np.ndarray) -> tuple[Image.Image, bool]:
    """The picture in an array, and whether its values had to be scaled from [0, 1] to [0, 255].

    Source: `to_pil_image` and `infer_channel_dimension_format` of transformers 4.51.3's image utilities, which take
    three dimensions and 1 or 3 channels.
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
    if values.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(values)), False
    low, high = values.min(), values.max()
    whole = low >= 0 and high <= 255 and np.allclose(values, values.astype(np.int64))
    if not whole and not (low >= 0 and high <= 1):
        raise MediaError(
            f"Cannot read {describe(array)}: values run from {low} to {high}; give whole numbers from 0 to 255 or "
            "floats from 0 to 1."
        )
    scaled = values if whole else (values.astype(np.float64) * 255).astype(np.float32)
    return Image.fromarray(np.ascontiguousarray(scaled.astype(np.uint8))), not whole
