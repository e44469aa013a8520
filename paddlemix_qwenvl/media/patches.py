"""Pictures and videos into the patches that the vision towers of Qwen2-VL and Qwen2.5-VL read."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .arguments import frames_of
from .images import ImageSource, decode, load_image, to_rgb
from .pixels import from_array, in_rgb
from .resize import MAX_PIXELS, MIN_PIXELS, smart_resize
from .threads import thread_map
from .video import Video

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


def preprocess_images(images: Sequence[ImageSource], **settings: Any) -> dict[str, Any]:
    """Patches of pictures; `settings` are the fields of `PatchSettings`.

    A PIL image is taken as it is and converted by `to_rgb`, as the original does it, unless `flat_images` has laid it on
    white; paths, addresses and arrays are read as `load_image` does and lie `on_white`. Returns
    - `pixel_values`: float32 [sum(t * h * w), 3 * temporal_patch_size * patch_size**2], rows in the merger's order;
    - `image_grid_thw`: int64 [n, 3], in patches;
    - `original_sizes`: (width, height) as the user gave each picture (`info["original_size"]` where there is one);
    - `resized_sizes`: (width, height) that the patches cover.

    Source: the slow Qwen2VLImageProcessor of transformers 4.51.3; values are the same to the last bit.
    Raises MediaError for what cannot be read or resized.
    """
    cut = PatchSettings(**settings)
    pictures = thread_map(_picture, images)
    pixels, grids, resized = _patches([[picture] for picture in pictures], cut)
    return {
        "pixel_values": pixels,
        "image_grid_thw": grids,
        "original_sizes": [picture.original_size for picture in pictures],
        "resized_sizes": resized,
    }


def preprocess_videos(videos: Sequence[Video | Sequence[ImageSource]], **settings: Any) -> dict[str, Any]:
    """Patches of videos, each a `Video`, a sequence of frames, or an array [T, H, W, 3] or [T, 3, H, W].

    The first frame's size decides for all; the last frame is repeated to fill a temporal patch. Returns, as
    `preprocess_images` does, `pixel_values_videos`, `video_grid_thw`, `video_original_sizes`, `video_resized_sizes`.
    Raises MediaError for a video without frames and for frames that cannot be read or resized.
    """
    cut = PatchSettings(**settings)
    clips = [thread_map(_picture, frames_of(video.frames if isinstance(video, Video) else video)) for video in videos]
    pixels, grids, resized = _patches(clips, cut)
    return {
        "pixel_values_videos": pixels,
        "video_grid_thw": grids,
        "video_original_sizes": [
            video.original_size if isinstance(video, Video) else clip[0].original_size
            for video, clip in zip(videos, clips, strict=True)
        ],
        "video_resized_sizes": resized,
    }


@dataclass(frozen=True, kw_only=True)
class PatchSettings:
    """How pictures are resized, normalized and cut, under the names of the Hub's preprocessor_config.json."""

    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS
    patch_size: int = 14
    temporal_patch_size: int = 2
    merge_size: int = 2
    image_mean: Sequence[float] = IMAGE_MEAN
    image_std: Sequence[float] = IMAGE_STD
    do_rescale: bool = True
    rescale_factor: float = 1 / 255

    def size_of(self, image: Image.Image) -> tuple[int, int]:
        """(width, height) that `image` is resized to."""
        factor = self.patch_size * self.merge_size
        height, width = smart_resize(image.height, image.width, factor, self.min_pixels, self.max_pixels)
        return width, height

    def table(self, scaled: bool) -> np.ndarray:
        """float32 [3, 256]: a channel's value -> the normalized one, rounded where the reference rounds.

        `scaled`: the value came as a float from 0 to 1, which the reference scales to 0..255 and back for resizing.
        """
        values = np.arange(256, dtype=np.float64)
        if scaled:
            values = (values * (1 / 255)).astype(np.float32).astype(np.float64)
        if self.do_rescale:
            values = values * self.rescale_factor
        mean, std = (np.broadcast_to(np.float32(v), 3)[:, None] for v in (self.image_mean, self.image_std))
        return (values.astype(np.float32) - mean) / std


@dataclass(frozen=True)
class _Picture:
    image: Image.Image  # RGB
    scaled: bool  # came as floats from 0 to 1
    original_size: tuple[int, int]


def _picture(source: ImageSource) -> _Picture:
    scaled = False
    if isinstance(source, Image.Image):
        image = to_rgb(decode(source, source))
    elif isinstance(source, np.ndarray):
        image, scaled = from_array(source)
        image = in_rgb(image)
    else:
        image = in_rgb(load_image(source))
    original_size = image.info.get("original_size")
    if not isinstance(original_size, tuple):  # a PNG may hold a text of that name
        original_size = image.size
    return _Picture(image, scaled, original_size)


def _patches(clips: list[list[_Picture]], cut: PatchSettings) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]:
    """Pixel values, grids and resized sizes of clips; a picture is a clip of one frame."""
    sizes = [cut.size_of(clip[0].image) for clip in clips]
    grids = np.array(
        [
            (-(-len(clip) // cut.temporal_patch_size), height // cut.patch_size, width // cut.patch_size)
            for clip, (width, height) in zip(clips, sizes, strict=True)
        ],
        dtype=np.int64,
    ).reshape(-1, 3)
    ends = grids.prod(axis=1).cumsum()
    shape = (3, cut.temporal_patch_size, cut.patch_size, cut.patch_size)
    pixels = np.empty((int(ends[-1]) if clips else 0, *shape), dtype=np.float32)
    if cut.do_rescale and any(picture.scaled for clip in clips for picture in clip):
        warnings.warn(
            "Floats from 0 to 1 are about to be rescaled again; pass do_rescale=False or values to 255.", stacklevel=3
        )
    tables = {scaled: cut.table(scaled) for scaled in {picture.scaled for clip in clips for picture in clip}}

    def fill(index: int, frame: int) -> None:
        grid, picture = grids[index], clips[index][frame]
        strips = pixels[ends[index] - grid.prod() : ends[index]].reshape(grid[0], grid[1] // cut.merge_size, -1, *shape)
        temporal, offset = divmod(frame, cut.temporal_patch_size)
        last = frame == len(clips[index]) - 1  # stands in for the frames that are missing from the last temporal patch
        places = strips[temporal, :, :, :, offset : None if last else offset + 1]
        _write(_resized(picture.image, sizes[index]), tables[picture.scaled], places, cut)

    thread_map(lambda where: fill(*where), [(i, f) for i, clip in enumerate(clips) for f in range(len(clip))])
    return pixels.reshape(len(pixels), math.prod(shape)), grids, sizes


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`image` at `size`, (width, height); itself where that is its own."""
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _write(image: Image.Image, table: np.ndarray, places: np.ndarray, cut: PatchSettings) -> None:
    """Put a picture's values by the table into `places`, float32 [rows of the merger's cells, patches, 3, frames, patch_size,
    patch_size]. What is made of such a row stays in buffers that the processor's cache holds until it is written."""
    side = cut.patch_size * cut.merge_size
    indices = np.empty(
        (1, image.width // side, cut.merge_size, cut.merge_size, cut.patch_size, cut.patch_size), np.intp
    )
    values = np.empty(indices.shape, np.float32)
    for row, patches in enumerate(places):
        cells = _cells(np.asarray(image.crop((0, row * side, image.width, (row + 1) * side))), cut)
        for channel, normalized in enumerate(table):
            indices[:] = cells[:, :, :, :, channel]
            normalized.take(indices, out=values, mode="clip")  # the mode that needs no buffer; all are from 0 to 255
            patches[:, channel] = values.reshape(-1, 1, cut.patch_size, cut.patch_size)


def patch_cells(frame: np.ndarray, cut: PatchSettings) -> np.ndarray:
    """uint8 [H, W, 3] -> [H * W / patch_size**2, 3, patch_size, patch_size], one merger's cells after the other."""
    return np.ascontiguousarray(_cells(frame, cut)).reshape(-1, 3, cut.patch_size, cut.patch_size)


def _cells(frame: np.ndarray, cut: PatchSettings) -> np.ndarray:
    """A view of uint8 [H, W, 3] as [rows, columns, merge_size, merge_size, 3, patch_size, patch_size]."""
    patch, merge = cut.patch_size, cut.merge_size
    rows, columns = frame.shape[0] // (patch * merge), frame.shape[1] // (patch * merge)
    return frame.reshape(rows, merge, patch, columns, merge, patch, 3).transpose(0, 3, 1, 4, 6, 2, 5)
