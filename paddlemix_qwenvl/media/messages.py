"""The images and videos that messages in the Hub's format speak of, loaded and resized.

Source of the sizes and pixels: qwen_vl_utils 0.0.14. Beyond it, pictures are turned upright by their EXIF orientation.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import PromptError
from .arguments import frames_of
from .content_cache import ContentCache, content_key
from .images import MAX_BYTES, TIMEOUT, ImageSource, open_image, read_image
from .parts import Message, check_parts
from .pixels import in_rgb
from .resize import image_pixel_limits, requested_size, resize_frame
from .sampling import FPS, FRAME_FACTOR, check_numbers, frame_size
from .threads import thread_map
from .video import VIDEO_MAX_BYTES, VIDEO_TIMEOUT, Video, load_video

MERGE_SIZE = 2
SIZE_SETTINGS = ("min_pixels", "max_pixels", "resized_height", "resized_width")


def process_vision_info(
    conversations: Sequence[Message] | Sequence[Sequence[Message]],
    return_video_kwargs: bool = False,
    return_video_metadata: bool = False,
    image_patch_size: int = 14,
    *,
    timeout: float = TIMEOUT,
    max_bytes: int = MAX_BYTES,
    max_image_pixels: int | None = None,
    video_timeout: float = VIDEO_TIMEOUT,
    video_max_bytes: int = VIDEO_MAX_BYTES,
    cache: ContentCache | None = None,
) -> tuple:
    """(images, videos) of one conversation or of several, in the order of their placeholders; None for none.

    The parts of messages are those of `check_parts`. Images are PIL images in RGB, resized as their message asks
    (`min_pixels`, `max_pixels`, or `resized_height` with `resized_width`); each keeps the user's size in
    `info["original_size"]`, (width, height). Videos are `Video`s.
    With `return_video_kwargs`, a third value holds `fps`, a list: the sampled frames a second of each video. With
    `return_video_metadata`, each video comes as a pair, with its `metadata` in place of these.

    The limits are those of `load_image` and `load_video`; `max_image_pixels` is the decoded picture's. Files and
    downloads whose content is in the `cache` are not decoded again.
    Raises PromptError for messages that are not in the Hub's format, MediaError for media that cannot be used.
    """
    factor = image_patch_size * MERGE_SIZE
    limits = {"timeout": timeout, "max_bytes": max_bytes, "max_pixels": max_image_pixels, "cache": cache}
    elements = extract_vision_info(conversations)
    images = thread_map(lambda e: fetch_image(e, factor, **limits), [e for e in elements if "image" in e])
    videos = [
        fetch_video(element, factor, video_timeout=video_timeout, video_max_bytes=video_max_bytes, **limits)
        for element in elements
        if "video" in element
    ]
    options = {} if return_video_metadata else {"fps": [video.fps for video in videos]}
    if return_video_metadata:
        videos = [(video, video.metadata) for video in videos]
    return (images or None, videos or None, options) if return_video_kwargs else (images or None, videos or None)


def extract_vision_info(conversations: Sequence[Message] | Sequence[Sequence[Message]]) -> list[dict[str, Any]]:
    """The images and videos of one conversation or of several, as `check_parts` writes them. Raises PromptError."""
    is_batch = isinstance(conversations, list | tuple) and conversations and isinstance(conversations[0], list | tuple)
    messages = [message for one in (conversations if is_batch else [conversations]) for message in check_parts(one)]
    contents = [message.get("content") for message in messages]
    found = [part for parts in contents if isinstance(parts, list) for part in parts if part["type"] != "text"]
    for part in found:
        if part["type"] not in part:
            raise PromptError(f"{part!r:.200} names no media; write {{'type': 'image', 'image': <path, URL, ...>}}.")
    return found


def fetch_image(
    element: Message,
    factor: int = 28,
    *,
    timeout: float = TIMEOUT,
    max_bytes: int = MAX_BYTES,
    max_pixels: int | None = None,
    cache: ContentCache | None = None,
) -> Image.Image:
    """The picture of one element of a message, as `check_parts` writes it: in RGB by `on_white`, and resized.

    The limits are those of `load_image`; files and downloads whose content is in the `cache` are not decoded again.
    Raises MediaError as `load_image` and `smart_resize` do.
    """
    check_numbers(element)
    source = element["image"]
    with open_image(source, timeout, max_bytes) as picture:
        if cache is None or isinstance(picture, Image.Image | np.ndarray):
            return _resized(read_image(picture, source, max_pixels), element, factor)
        key = content_key(picture, factor, [element.get(name) for name in SIZE_SETTINGS])
        image = cache.get(key) or _resized(read_image(picture, source, max_pixels), element, factor)
    cache.put(key, image, nbytes=3 * image.width * image.height)
    return image.copy()


def _resized(image: Image.Image, element: Message, factor: int) -> Image.Image:
    least, most = image_pixel_limits(factor)
    height, width = requested_size(
        element, image.height, image.width, factor, element.get("min_pixels", least), element.get("max_pixels", most)
    )
    resized = in_rgb(image).resize((width, height), Image.Resampling.BICUBIC)
    resized.info = {"original_size": image.size}
    return resized


def fetch_video(
    element: Message,
    factor: int = 28,
    *,
    video_timeout: float = VIDEO_TIMEOUT,
    video_max_bytes: int = VIDEO_MAX_BYTES,
    **image_limits: Any,
) -> Video:
    """The frames of one video element of a message: a file or an address to sample, or a list of pictures to take all.

    Of a list, `sample_fps` (2 by default) tells how many a second there are, `raw_fps` how many there were, and an odd
    count is filled up with the last; an array [T, H, W, C] or [T, C, H, W] is such a list. `image_limits` are then those of
    `fetch_image`. A `Video` stays as it is. Raises MediaError as `load_video` and `load_image` do.
    """
    source = element["video"]
    if isinstance(source, Video):
        return source
    if isinstance(source, str | os.PathLike):
        return load_video(source, element, factor, timeout=video_timeout, max_bytes=video_max_bytes)
    source = frames_of(source)

    def frame_of(frame: ImageSource) -> Image.Image:  # 2 * factor: qwen_vl_utils hands on the factor as a patch size
        return fetch_image({**element, "image": frame}, MERGE_SIZE * factor, **image_limits)

    pictures = thread_map(frame_of, source)
    pictures += pictures[-1:] * (-len(pictures) % FRAME_FACTOR)
    height, width = frame_size(element, len(pictures), pictures[0].height, pictures[0].width, factor)
    resized = [resize_frame(picture, (width, height)) for picture in pictures]
    fps = float(element.get("sample_fps", FPS))
    indices, size = np.arange(len(pictures)), pictures[0].info["original_size"]
    frames = np.stack(resized).transpose(0, 3, 1, 2)
    return Video(frames, fps, indices / fps, indices, size, float(element.get("raw_fps", fps)))
