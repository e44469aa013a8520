"""The process that decodes what users send: within limits of time and memory, and without a way to what the server knows.

Decoders have faults that pictures and videos are made for; here one ends this process and costs one request. What goes in and
out is JSON in one line, open files and raw pixels. It is run by `decoding`.
"""

from __future__ import annotations

import io
import json
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

import av  # noqa: F401  (before there is a limit of memory)
import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from paddlemix_qwenvl.errors import MediaError
from paddlemix_qwenvl.media.fetch import decode_data_uri
from paddlemix_qwenvl.media.images import decode, upright
from paddlemix_qwenvl.media.messages import fetch_video
from paddlemix_qwenvl.media.pixels import on_white
from paddlemix_qwenvl.media.sampling import MAX_FRAMES, check_numbers
from paddlemix_qwenvl.media.video import Accepted, read_video

_PLUGINS = (
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
)
_FORMATS = tuple(plugin.format for plugin in _PLUGINS if plugin.format in Image.OPEN)
_CONTAINERS = "mov,matroska,gif"
_DECODERS = "h264,hevc,vp8,vp9,libdav1d,libaom-av1,av1,mpeg4,gif"
_FRAMES = b"data:video/jpeg;base64"
_UNREADABLE = (
    "it is damaged, too large, or of a kind that this server does not take; send a JPEG, PNG, WebP, GIF or BMP picture, or a "
    "video in MP4, MOV, WebM, Matroska or GIF."
)
_FACTOR = 28

Job = Mapping[str, Any]


def main(memory: int) -> None:
    """Decode one after another, until there is nobody who asks.

    Args:
        memory: bytes that this process may take.
    """
    Image.MAX_IMAGE_PIXELS = None  # `_opened` has a limit of its own
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=0) as server:
        while True:
            line, descriptors, _, _ = socket.recv_fds(server, 1 << 16, 1)
            if not line:
                return
            job = json.loads(line)
            signal.alarm(job["seconds"])  # ends the process
            with open(descriptors[0], "rb") as file:
                answer, pixels = _answer(file, job)
            server.sendall(json.dumps(answer).encode() + b"\n")
            server.sendall(pixels)
            signal.alarm(0)
            if answer.get("failed"):
                return  # what a decoder leaves behind is nobody else's


def _answer(file: BinaryIO, job: Job) -> tuple[dict[str, Any], memoryview | bytes]:
    """What is said of a job, and the pixels. The texts of libraries may hold addresses in memory: none is told."""
    try:
        return _video(file, job) if job["kind"] == "video" else _picture(file, job)
    except UnidentifiedImageError:
        return {"error": _UNREADABLE}, b""
    except MediaError as error:
        if error.__cause__ is None:
            return {"error": str(error)}, b""
    except Exception:  # nearly every one that Python has comes from damaged files
        pass
    return {"error": _UNREADABLE, "failed": True}, b""


def _picture(file: BinaryIO, job: Job) -> tuple[dict[str, Any], bytes]:
    content = _data(file.read()) if job["is_uri"] else file
    image = _opened(content, job["picture_pixels"])
    rgb = on_white(upright(decode(image, "a picture")))
    return {"size": rgb.size}, rgb.tobytes()


def _video(file: BinaryIO, job: Job) -> tuple[dict[str, Any], memoryview]:
    accepted = Accepted(_CONTAINERS, _DECODERS, job["picture_pixels"])
    uri = file.read() if job["is_uri"] else b""
    check_numbers(job["options"])
    if uri[: len(_FRAMES)].lower() == _FRAMES:
        video = fetch_video(job["options"] | {"video": _frames(uri, job)}, _FACTOR)
    else:
        video = read_video(_data(uri) if uri else file, job["options"], _FACTOR, accepted)
    _check_sum(video.frames.size // 3, job)
    told = {name: getattr(video, name) for name in ("fps", "original_size", "original_fps")}
    told |= {"timestamps": video.timestamps.tolist(), "indices": video.indices.tolist()}
    frames = np.ascontiguousarray(video.frames.transpose(0, 2, 3, 1))
    return {"shape": frames.shape, "video": told}, memoryview(frames).cast("B")


def _frames(uri: bytes, job: Job) -> list[Image.Image]:
    """Pictures in base64 with commas between them, as vLLM takes them; their sizes are known, their pixels not yet."""
    _, *frames = uri.split(b",", MAX_FRAMES + 1)
    if len(frames) > MAX_FRAMES:
        raise MediaError(f"it has over {MAX_FRAMES} frames; send fewer.")
    images = [_opened(_data(b"data:image/jpeg;base64," + frame), job["picture_pixels"]) for frame in frames]
    _check_sum(sum(image.width * image.height for image in images), job)
    return images


def _check_sum(pixels: int, job: Job) -> None:
    if pixels > job["pixels"]:
        raise MediaError(f"its frames have over {job['pixels']} pixels together; take fewer or smaller ones.")


def _opened(file: BinaryIO, most: int) -> Image.Image:
    """A picture of an accepted format, of whose file only the beginning is read."""
    image = Image.open(file, formats=_FORMATS)
    if image.width * image.height > most:
        raise MediaError(f"{image.width} x {image.height} pixels are over the limit of {most}; shrink it.")
    return image


def _data(uri: bytes) -> BinaryIO:
    try:
        return io.BytesIO(decode_data_uri(uri.decode("ascii")))
    except ValueError:
        raise MediaError("its data URI is damaged; send data:image/png;base64,DATA.") from None


if __name__ == "__main__":
    main(int(sys.argv[1]))
