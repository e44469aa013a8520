"""Pictures in a Qwen-VL prompt: where they stand in its ids, what they are called, and their pixels. Plain NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.media.images import ImageSource, load_image
from paddlemix_qwenvl.media.patches import IMAGE_MEAN, IMAGE_STD
from paddlemix_qwenvl.media.pixels import on_white
from paddlemix_qwenvl.media.threads import thread_map


@dataclass(frozen=True)
class Slot:
    """A picture's place in a batch of ids: tokens `start` to `stop` of row `row`, `<img>` and `</img>` left out."""

    row: int
    start: int
    stop: int


def find_slots(ids: np.ndarray, image_start_id: int, span: int) -> list[Slot]:
    """The pictures of a batch of ids `[B, S]`, in reading order.

    Args:
        image_start_id: id of `<img>`; `</img>` is the next one.
        span: tokens between the two.

    Raises:
        PromptError: a tag that is not closed or not opened, or a slot of another length.
    """
    rows, places = np.nonzero((ids == image_start_id) | (ids == image_start_id + 1))
    tags = list(zip(rows.tolist(), places.tolist(), ids[rows, places].tolist(), strict=True))
    slots = []
    for (row, start, opening), (end_row, stop, closing) in zip(tags[::2], tags[1::2], strict=False):
        if opening != image_start_id or closing != image_start_id + 1 or row != end_row:
            raise PromptError(f"row {row} has an <img> without its </img>, or the other way round: close each <img>.")
        if stop - start - 1 != span:
            raise PromptError(
                f"row {row} has {stop - start - 1} tokens between <img> and </img>, the model needs {span}: let the model's "
                f"tokenizer encode the text."
            )
        slots.append(Slot(row, start + 1, stop))
    if len(tags) % 2:
        raise PromptError(
            f"row {tags[-1][0]} has an <img> without its </img>, or the other way round: close each <img>."
        )
    return slots


def picture_name(ids: np.ndarray, image_start_id: int) -> str:
    """The path or address in the ids of one slot: its bytes, up to the first `<imgpad>`.

    Raises:
        PromptError: they are no UTF-8 text.
    """
    ends = np.nonzero(ids == image_start_id + 2)[0]
    name = ids[: ends[0]] if ends.size else ids
    try:
        return bytes(name.tolist()).decode("utf-8")
    except ValueError as error:  # UnicodeDecodeError, or an id that is no byte
        raise PromptError(
            f"the tokens {name[:10].tolist()}... between <img> and </img> are not the bytes of a path or an address: let the "
            f"model's tokenizer encode the text, or pass the pictures themselves as images."
        ) from error


def read_pictures(pictures: list[ImageSource], side: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Normalized pixels, float32 `[pictures, 3, side, side]`, and each picture's own (width, height).

    `pictures` as in `media.load_image`. Source: `VisionTransformer.image_transform` of Qwen-VL's visual.py, which leaves pictures
    lying on their side as they are and drops transparency; here they are turned upright as their EXIF orientation says, and what is
    transparent lies on white.

    Raises:
        MediaError: a picture that cannot be read.
    """
    mean, std = np.float32(IMAGE_MEAN), np.float32(IMAGE_STD)

    def read(picture):
        image = on_white(load_image(picture))
        values = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), np.float32) / np.float32(255)
        return ((values - mean) / std).transpose(2, 0, 1), image.size

    pixels, sizes = zip(*thread_map(read, pictures), strict=True)
    return np.stack(pixels), list(sizes)
