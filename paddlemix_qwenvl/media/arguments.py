"""Images and videos as a call may give them: one alone, a list of them, or a list of such lists, one for each prompt."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import MediaError
from .images import ImageSource, decode
from .pixels import describe, in_rgb
from .video import Video


def flat_images(given: Any) -> list[ImageSource]:
    """All images in order; those of Pillow in RGB, by `on_white`. An array with four dimensions is several.

    Raises MediaError for a PIL image that cannot be read.
    """
    if given is None:
        return []
    if isinstance(given, list | tuple) or getattr(given, "ndim", 0) == 4:
        return [image for item in given for image in flat_images(item)]
    return [_plain(given)]


def flat_videos(given: Any) -> list[Video | Sequence[ImageSource]]:
    """All videos in order, frames of Pillow in RGB, by `on_white`. An array with five dimensions is several.

    A list of PIL images or of arrays is one video, and within a list also a list of paths. Of the pairs that
    `process_vision_info` gives with `return_video_metadata`, the `Video` is taken, which knows as much.
    Raises MediaError for a PIL image that cannot be read and for a pair that is none of these.
    """
    if given is None:
        return []
    if isinstance(given, list | tuple) and len(given) == 2 and isinstance(given[1], Mapping):
        if not isinstance(given[0], Video):
            raise MediaError(
                f"{describe(given[0])} came beside its metadata; give the frames alone, and fps=... in the call."
            )
        return [given[0]]
    if _is_frames(given, Image.Image | np.ndarray):
        return [[_plain(frame) for frame in given]]
    if not isinstance(given, list | tuple) and getattr(given, "ndim", 0) != 5:
        return [given]
    return [video for item in given for video in ([item] if _is_frames(item, str | os.PathLike) else flat_videos(item))]


def frames_of(video: Any) -> Sequence[ImageSource]:
    """The frames of a video that is a list of them or an array [T, H, W, C] or [T, C, H, W]. Raises MediaError."""
    if not isinstance(video, list | tuple) and not (isinstance(video, np.ndarray) and video.ndim == 4):
        raise MediaError(
            f"{describe(video)}: expected a list of frames or an array [T, H, W, C] or [T, C, H, W]; a video file is sampled "
            "by load_video or process_vision_info."
        )
    if not len(video):
        raise MediaError("A video without frames was given; each needs at least one frame.")
    return video


def _is_frames(given: Any, kinds: Any) -> bool:
    """Whether it is a list whose first item is a frame: one of `kinds` and no video itself."""
    is_list = isinstance(given, list | tuple) and len(given) > 0
    return is_list and isinstance(given[0], kinds) and getattr(given[0], "ndim", 3) <= 3


def _plain(image: ImageSource) -> ImageSource:
    return in_rgb(decode(image, image)) if isinstance(image, Image.Image) else image
