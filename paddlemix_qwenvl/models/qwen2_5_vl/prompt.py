"""What a prompt's placeholders become. Needs no Paddle."""

from __future__ import annotations

import numpy as np

from paddlemix_qwenvl.errors import PromptError

IMAGE_TOKEN = "<|image_pad|>"
VIDEO_TOKEN = "<|video_pad|>"


def grow_placeholders(texts: list[str], token: str, grid_thw, merge_size: int, kind: str) -> list[str]:
    """Repeat each placeholder as often as its image or video has tokens.

    Args:
        texts: prompts, with the placeholders of all of them in the order of `grid_thw`.
        token: the placeholder.
        grid_thw: int `[images, 3]`, or None for no image.
        merge_size: side of the square of patches that becomes one token.
        kind: "image" or "video", for the message.

    Raises:
        PromptError: more placeholders than images, or fewer.
    """
    grids = [] if grid_thw is None else np.asarray(grid_thw)
    counts = [int(np.prod(grid)) // merge_size**2 for grid in grids]
    found = sum(text.count(token) for text in texts)
    if found != len(counts):
        raise PromptError(
            f"the text has {found} {kind} placeholders ({token}) but {len(counts)} {kind}s were given: give one {kind} for each, "
            f"in order, all prompts of the batch together."
        )
    remaining = iter(counts)
    grown = []
    for text in texts:
        first, *rest = text.split(token)
        grown.append(first + "".join(token * next(remaining) + part for part in rest))
    return grown
