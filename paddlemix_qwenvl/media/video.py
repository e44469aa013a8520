"""Videos from files and addresses: only the frames that are looked at are kept, each resized as it is decoded."""

import os
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from ..errors import MediaError
from .fetch import open_source
from .pixels import describe
from .resize import resize_frame
from .sampling import Timeline, check_numbers, frame_size, sample

if TYPE_CHECKING:
    import av

VIDEO_TIMEOUT = 600.0
VIDEO_MAX_BYTES = 4 << 30

NO_PTS = -(1 << 63)
QUARTER_TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


@dataclass(frozen=True)
class Video:
    """Sampled frames of a video. `np.asarray` of it gives `frames`; its length is their number.

    `frames`: uint8 [T, 3, H, W], resized; `fps`: how many of them a second there are; `timestamps`: float64 [T],
    seconds in the video the user gave; `indices`: int64 [T], in that video's frames; `original_size`: its
    (width, height) as shown, rotation included; `original_fps`: its frames a second, those sampled where not known.
    """

    frames: np.ndarray = field(repr=False)
    fps: float
    timestamps: np.ndarray = field(repr=False)
    indices: np.ndarray = field(repr=False)
    original_size: tuple[int, int]
    original_fps: float | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """What qwen_vl_utils 0.0.14 tells of a video: the frames a second and the number of frames that were sampled
        from, and which were taken."""
        fps = self.fps if self.original_fps is None else self.original_fps
        total = round(len(self) / self.fps * fps)
        return {"fps": fps, "frames_indices": self.indices.tolist(), "total_num_frames": total}

    def __len__(self) -> int:
        return len(self.frames)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.frames, dtype=dtype) if copy else np.asarray(self.frames, dtype=dtype)


@dataclass(frozen=True)
class Accepted:
    """What a video file may be, by FFmpeg's names of containers and decoders, and the pixels of a frame; None for anything."""

    containers: str | None = None
    decoders: str | None = None
    max_pixels: int | None = None


def load_video(
    source: str | os.PathLike,
    element: Mapping[str, Any] = MappingProxyType({}),
    factor: int = 28,
    *,
    timeout: float = VIDEO_TIMEOUT,
    max_bytes: int = VIDEO_MAX_BYTES,
) -> Video:
    """Samples a video file, which is a path, a file:// or http(s) address or a base64 data URI.

    `element`, a message's, says which frames (2 a second by default) and how large: see `sampling.sample` and
    `sampling.frame_size`. Two passes are made: one over the packets for the frames' times, one that seeks and decodes.
    Memory holds the frames asked for and 16 bytes for each frame of the video. A progress bar appears on a terminal
    when decoding takes over 2 s.
    Raises MediaError, naming the source, for what cannot be fetched or decoded, has no frames, or cannot be sampled so.
    """
    check_numbers(element)
    with open_source(source, timeout=timeout, max_bytes=max_bytes, buffer=tempfile.TemporaryFile) as file:
        try:
            return read_video(file, element, factor)
        except Exception as error:  # PyAV raises nearly every built-in exception on damaged files
            raise MediaError(f"Cannot read {describe(source)}: {error}") from error


def read_video(file: BinaryIO, element: Mapping[str, Any], factor: int, accepted: Accepted = Accepted()) -> Video:
    """As `load_video`, of an open file. Raises MediaError, and what PyAV does."""
    from tqdm import tqdm

    index = index_video(file, accepted)
    indices, fps = sample(element, index.timeline)
    positions = np.unique(indices)
    timestamps = np.empty(len(indices))
    frames = None
    with tqdm(total=len(positions), desc="Video", unit="frame", delay=2, disable=None, leave=False) as progress:
        for position, (image, seconds) in zip(positions, frames_at(file, index, positions.tolist()), strict=True):
            if frames is None:
                height, width = frame_size(element, len(indices), image.height, image.width, factor)
                frames = np.empty((len(indices), height, width, 3), dtype=np.uint8)
                original_size = image.size
            frames[indices == position] = resize_frame(image, (width, height))
            timestamps[indices == position] = seconds
            progress.update()
    return Video(frames.transpose(0, 3, 1, 2), fps, timestamps, indices, original_size, index.timeline.fps)


@contextmanager
def _open_stream(
    file: BinaryIO, accepted: Accepted
) -> Iterator[tuple["av.container.InputContainer", "av.VideoStream"]]:
    """The video in a file. FFmpeg sees this file alone: a playlist in it cannot name others."""
    import av

    file.seek(0)
    options = {"protocol_whitelist": "none", "format_whitelist": accepted.containers}
    options = _given(options | {"codec_whitelist": accepted.decoders})  # which counts while streams are looked for
    with av.open(file, container_options=options, metadata_errors="replace", buffer_size=1 << 18) as container:
        stream = container.streams.best("video")
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            raise MediaError("it has no video in it, only sound or data; give a file with a video stream.")
        stream.thread_type = "AUTO"
        limits = {"codec_whitelist": accepted.decoders, "max_pixels": accepted.max_pixels}
        stream.codec_context.options |= _given(limits)
        yield container, stream


def _given(options: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in options.items() if value is not None}


@dataclass(frozen=True)
class VideoIndex:
    """Where the frames of a video are, from its packets alone.

    `pts`: int64 [n], presentation times in order and in the stream's `time_base`, or None if the file has none;
    `keyframes`: int64 [k, 2], the frames that decoding can start from: presentation time, time to seek to.
    """

    timeline: Timeline
    pts: np.ndarray | None
    keyframes: np.ndarray
    accepted: Accepted = Accepted()


def index_video(file: BinaryIO, accepted: Accepted = Accepted()) -> VideoIndex:
    """Reads a video's packets. Raises MediaError or av.FFmpegError for one that is damaged or without frames."""
    pts, keyframes = array("q"), array("q")
    with _open_stream(file, accepted) as (container, stream):
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                pts.append(NO_PTS if packet.pts is None else packet.pts)
                if packet.is_keyframe:
                    keyframes.extend((pts[-1], pts[-1] if packet.dts is None else min(pts[-1], packet.dts)))
        header_fps, unit = float(stream.average_rate or 0), float(stream.time_base)
        guessed_fps = float(stream.guessed_rate or 25)
    times, keys = np.sort(np.array(pts)), np.array(keyframes).reshape(-1, 2)
    if len(times) and times[0] == NO_PTS:
        return VideoIndex(Timeline(np.arange(len(times)) / guessed_fps, guessed_fps), None, np.empty((0, 2)), accepted)
    keys = keys[np.argsort(keys[:, 0])]
    times = times[np.searchsorted(times, keys[0, 0]) :] if len(keys) else times[:0]
    if not len(times):
        raise MediaError("it has no frames; give a video with at least one.")
    seconds = (times - times[0]) * unit
    return VideoIndex(Timeline(seconds, _frame_rate(seconds, header_fps)), times, keys, accepted)


def _frame_rate(seconds: np.ndarray, header_fps: float) -> float:
    """The header's frame rate, unless the frames' own times say something else."""
    length, intervals = float(seconds[-1]), len(seconds) - 1
    if header_fps > 0 and abs(length - intervals / header_fps) <= max(2 / header_fps, 0.05 * length):
        return header_fps
    return intervals / length if length > 0 else 1.0


class _SeekMissed(Exception):
    """The container went somewhere else than to the keyframe asked for."""


def frames_at(file: BinaryIO, index: VideoIndex, positions: Sequence[int]) -> Iterator[tuple[Image.Image, float]]:
    """The frames at ascending `positions`, upright and in RGB, each with its time in seconds.

    Where the decoder skips a frame, the next one stands in, with its own time. Files that do not seek are decoded from
    the start. Raises MediaError or av.FFmpegError for frames that cannot be decoded.
    """
    left = list(positions)
    try:
        for frame in _decode(file, index, positions, index.keyframes):
            del left[0]
            yield frame
    except _SeekMissed:
        yield from _decode(file, index, left, index.keyframes[:0])


def _decode(
    file: BinaryIO, index: VideoIndex, positions: Sequence[int], keyframes: np.ndarray
) -> Iterator[tuple[Image.Image, float]]:
    with _open_stream(file, index.accepted) as (container, stream):
        frames = container.decode(stream)
        number, reached = -1, keyframes[0, 0] if len(keyframes) else 0
        for position in positions:
            target = position if index.pts is None else index.pts[position]
            key = np.searchsorted(keyframes[:, 0], target, side="right") - 1
            if key >= 0 and keyframes[key, 0] > reached:
                frames = _seek(container, stream, *keyframes[key].tolist())
            for frame in frames:
                number += 1
                reached = number if index.pts is None else frame.pts
                if reached >= target:
                    break
            else:
                raise MediaError(
                    f"the frame at {index.timeline.times[position]:.2f} s is missing; the file is damaged."
                )
            seconds = index.timeline.times[position]
            if index.pts is not None:
                seconds = float((frame.pts - index.pts[0]) * stream.time_base)
            yield _upright(frame), seconds


def _seek(
    container: "av.container.InputContainer", stream: "av.VideoStream", pts: int, seek_to: int
) -> Iterator["av.VideoFrame"]:
    """Frames from the keyframe shown at `pts` on. Raises _SeekMissed."""
    import av

    try:
        container.seek(seek_to, stream=stream)
        frames = container.decode(stream)
        first = next(frames)
    except (av.FFmpegError, StopIteration) as error:
        raise _SeekMissed from error
    if first.pts is None or first.pts > pts:
        raise _SeekMissed
    return chain([first], frames)


def _upright(frame: "av.VideoFrame") -> Image.Image:
    image = frame.to_image()
    turn = QUARTER_TURNS[round(frame.rotation / 90) % 4]  # counterclockwise, both here and in Pillow
    return image if turn is None else image.transpose(turn)
