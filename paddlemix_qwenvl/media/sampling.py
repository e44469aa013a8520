"""Which frames of a video are looked at, and how large. Source of the arithmetic: qwen_vl_utils 0.0.14."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from ..errors import MediaError
from .resize import requested_size

FPS = 2.0
FRAME_FACTOR = 2
MIN_FRAMES = 4
MAX_FRAMES = 768
FRAME_TOKENS = (128, 768)  # of one frame, where the message does not say
VIDEO_TOKENS = 128000 * 0.9  # of a whole video, likewise

POSITIVE = (
    *("fps", "sample_fps", "raw_fps", "nframes", "min_frames", "max_frames"),
    *("min_pixels", "max_pixels", "total_pixels", "resized_height", "resized_width"),
)


@dataclass(frozen=True)
class Timeline:
    """When the frames of a video are shown: `times` float64 [n], seconds from the first one, and the frame rate."""

    times: np.ndarray
    fps: float

    @property
    def is_even(self) -> bool:
        """Whether every frame is within half a frame of where the frame rate puts it."""
        return bool(np.abs(self.times * self.fps - np.arange(len(self.times))).max() <= 0.5)


def sample(element: Mapping[str, Any], timeline: Timeline) -> tuple[np.ndarray, float]:
    """The frames to take, int64 [nframes], and how many of them a second there are.

    `element` may hold `fps` (2 by default) with `min_frames` and `max_frames`, or `nframes`; and `video_start` and
    `video_end` in seconds. The count is even; the one frame of a video that has only one is taken twice.
    Where the frame rate varies, start and end are looked up in the frames' own times.
    Raises MediaError for an empty range, and for more frames than there are.
    """
    start, end, fps = _range(element, timeline)
    total = end - start + 1
    if total == 1 and "nframes" not in element:
        return np.array([start, start]), FRAME_FACTOR * fps
    nframes = smart_nframes(element, total, fps)
    return _linspace(start, end, nframes).round().astype(np.int64), nframes / total * fps


def smart_nframes(element: Mapping[str, Any], total_frames: int, video_fps: float) -> int:
    """How many of `total_frames` frames to take. Source: the function of the same name in qwen_vl_utils 0.0.14."""
    if "fps" in element and "nframes" in element:
        raise MediaError("Both fps and nframes were given for a video; give one of them.")
    if "nframes" in element:
        nframes = round(element["nframes"] / FRAME_FACTOR) * FRAME_FACTOR
    else:
        fewest = math.ceil(element.get("min_frames", MIN_FRAMES) / FRAME_FACTOR) * FRAME_FACTOR
        most = element.get("max_frames", min(MAX_FRAMES, total_frames)) // FRAME_FACTOR * FRAME_FACTOR
        nframes = total_frames / video_fps * element.get("fps", FPS)
        nframes = min(max(nframes, fewest), most, total_frames) // FRAME_FACTOR * FRAME_FACTOR
    if not FRAME_FACTOR <= nframes <= total_frames:
        raise MediaError(
            f"{nframes:g} frames were asked for; this video, or the part of it between video_start and video_end, "
            f"can give {FRAME_FACTOR} to {total_frames}, an even number. Change nframes, or min_frames and max_frames."
        )
    return int(nframes)


def frame_size(element: Mapping[str, Any], nframes: int, height: int, width: int, factor: int) -> tuple[int, int]:
    """(height, width) of each frame, given the pixels that a frame and the whole video may have."""
    min_pixels = element.get("min_pixels", FRAME_TOKENS[0] * factor**2)
    total_pixels = element.get("total_pixels", VIDEO_TOKENS * factor**2)
    most = max(min(FRAME_TOKENS[1] * factor**2, total_pixels / nframes * FRAME_FACTOR), int(min_pixels * 1.05))
    return requested_size(element, height, width, factor, min_pixels, min(element.get("max_pixels", most), most))


def check_numbers(element: Mapping[str, Any]) -> None:
    """Raises MediaError for a setting of a video or an image that is no number, or not over 0 where it must be."""
    for key in (*POSITIVE, "video_start", "video_end"):
        value = element.get(key, 1)
        is_number = isinstance(value, Real) and math.isfinite(value)
        if not is_number or (value <= 0 and not key.startswith("video_")):
            raise MediaError(f"{key}={value!r}: expected a number{'' if key.startswith('video_') else ' over 0'}.")


def _range(element: Mapping[str, Any], timeline: Timeline) -> tuple[int, int, float]:
    """First and last frame between `video_start` and `video_end`, and the frame rate there."""
    times, fps = timeline.times, timeline.fps
    first, last = 0, len(times) - 1
    if "video_start" not in element and "video_end" not in element:
        return first, last, fps
    start, end = element.get("video_start", 0.0), element.get("video_end", math.inf)
    if timeline.is_even:
        duration = len(times) / fps
        first = math.ceil(max(0.0, min(start, duration)) * fps)
        last = min(math.floor(max(0.0, min(end, duration)) * fps), last)
    else:
        first, last = int(np.searchsorted(times, start)), int(np.searchsorted(times, end, side="right")) - 1
        fps = (last - first) / (times[last] - times[first]) if first < last else fps
    if first >= last:
        raise MediaError(
            f"video_start={start:g} and video_end={end:g} leave no two frames of a video of {len(times) / fps:.2f} s; "
            "widen the range."
        )
    return first, last, fps


def _linspace(start: int, end: int, steps: int) -> np.ndarray:
    """torch.linspace in float32: multiply and add with one rounding, the second half counted from the end."""
    step = np.float64(np.float32(end - start) / np.float32(steps - 1))
    index = np.arange(steps)
    points = np.where(index < steps // 2, start + step * index, end - step * (steps - 1 - index))
    return points.astype(np.float32)
