"""Seeded pictures, videos and settings: the same ones for the tests and for the reference that made golden.npz."""

import io
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

GOLDEN = Path(__file__).with_name("golden.npz")
MIN_PIXELS, MAX_PIXELS = 3136, 12845056  # of the Hub's preprocessor_config.json
SIZES = [(28, 28), (100, 63), (401, 640), (1500, 420), (57, 3000)]  # width, height
KINDS = ["RGB", "RGBA", "L", "LA", "P", "P transparent", "1", "CMYK", "YCbCr", "I;16", "I", "F", "GIF"]
ARRAYS = ["uint8 HWC", "uint8 CHW", "float32 HWC 255", "float64 CHW 255", "float32 HWC 1", "float64 CHW 1"]
VIDEO_SETTINGS = [
    {},
    {"nframes": 6, "max_pixels": 110000},
    {"fps": 1.0, "video_start": 0.55, "video_end": 3.2},
    {"fps": 4.0, "max_frames": 8, "min_pixels": 784, "total_pixels": 100000},
]


def texture(width: int, height: int, channels: int, seed: int = 0) -> np.ndarray:
    """uint8 [H, W, C]: waves with some noise, the same under every version of every library."""
    rng = np.random.default_rng(seed + 1000 * width + height)
    y, x = np.arange(height)[:, None, None], np.arange(width)[:, None]
    phase = rng.integers(0, 7, size=(3, channels))
    waves = (x * (2 + phase[0]) // 3 + y * (1 + phase[1]) // 2 + (x * y // 40) * phase[2]) % 256
    return (waves // 2 + rng.integers(0, 128, size=waves.shape)).astype(np.uint8)


def picture(kind: str, width: int, height: int) -> Image.Image:
    plain = texture(width, height, 4)
    if kind in ("RGB", "RGBA", "LA", "CMYK", "YCbCr"):
        return Image.frombytes(kind, (width, height), plain[:, :, : Image.getmodebands(kind)].tobytes())
    grey = plain[:, :, 0]
    if kind == "L":
        return Image.fromarray(grey)
    if kind == "1":
        return Image.fromarray(grey > 99)
    if kind == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 3)
    if kind == "I":
        return Image.fromarray(grey.astype(np.int32) * 2 - 50)
    if kind == "F":
        return Image.fromarray(grey.astype(np.float32) * 1.3 - 20)
    palette = Image.fromarray(grey, "P")
    palette.putpalette(texture(16, 16, 3).tobytes())
    if kind == "P transparent":
        palette.info["transparency"] = 7
    if kind != "GIF":
        return palette
    file = io.BytesIO()
    palette.save(file, "GIF", save_all=True, append_images=[palette.rotate(90).resize(palette.size)])
    return Image.open(file)


def array(kind: str, width: int, height: int) -> np.ndarray:
    dtype, layout, *top = kind.split()
    values = texture(width, height, 3)
    if top == ["1"]:
        values = values / 255
    return (values.transpose(2, 0, 1) if layout == "CHW" else values).astype(dtype)


def summary(values: np.ndarray) -> np.ndarray:
    """Mean, deviation and 46 of the values."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return np.concatenate([[flat.mean(), flat.std()], flat[np.linspace(0, flat.size - 1, 46).astype(int)]])


def resize_cases() -> np.ndarray:
    """int64 [n, 4]: height, width, min_pixels, max_pixels."""
    rng = np.random.default_rng(1)
    sides = np.exp(rng.uniform(math.log(28), math.log(6000), size=(400, 2))).astype(np.int64)
    least = rng.choice([784, 3136, 100352], size=400)
    most = least * rng.integers(1, 60, size=400)
    sides[:4] = [(28, 5600), (42, 70), (56, 126), (14 * 3, 14 * 5)]
    cases = np.column_stack([sides, least, most])
    return cases[cases[:, :2].max(axis=1) <= 200 * cases[:, :2].min(axis=1)]


def small_resize_cases() -> np.ndarray:
    """int64 [n, 2]: height, width, one of them or both under 28."""
    rng = np.random.default_rng(2)
    sides = np.column_stack([rng.integers(1, 28, size=80), rng.integers(1, 900, size=80)])
    sides[::2] = sides[::2, ::-1]
    return sides[sides.max(axis=1) <= 200 * sides.min(axis=1)]


def sampling_cases() -> list[tuple[dict, int, float]]:
    """(element, total_frames, video_fps): which frames?"""
    rng = np.random.default_rng(3)
    rates = [1.0, 5.0, 10.0, 15.0, 23.976023976023978, 24.0, 25.0, 29.97002997002997, 30.0, 59.94005994005994, 60.0]
    cases = []
    for _ in range(250):
        total, rate = int(np.exp(rng.uniform(math.log(2), math.log(40000)))), float(rng.choice(rates))
        element = {}
        if rng.random() < 0.4:
            element["nframes"] = int(rng.integers(1, min(total, 64) + 4))
        else:
            if rng.random() < 0.7:
                element["fps"] = float(rng.choice([0.1, 0.5, 1, 2, 3.3, 8, 60]))
            if rng.random() < 0.4:
                element["min_frames"] = int(rng.integers(1, 12))
            if rng.random() < 0.5:
                element["max_frames"] = int(rng.integers(1, 60))
        if rng.random() < 0.4:
            element["video_start"] = round(rng.uniform(-1, total / rate * 0.8), 2)
        if rng.random() < 0.4:
            element["video_end"] = round(rng.uniform(total / rate * 0.3, total / rate * 1.5), 2)
        cases.append((element, total, rate))
    return cases


def frame_size_cases() -> list[tuple[dict, int, int, int]]:
    """(element, nframes, height, width): what size does each frame get?"""
    rng = np.random.default_rng(4)
    cases = []
    for _ in range(150):
        height, width = np.exp(rng.uniform(math.log(40), math.log(2200), size=2)).astype(int).tolist()
        element = {}
        if rng.random() < 0.4:
            element["min_pixels"] = int(rng.choice([784, 3136, 50176, 200704]))
        if rng.random() < 0.4:
            element["max_pixels"] = int(rng.choice([100352, 200704, 360000, 10**7]))
        if rng.random() < 0.4:
            element["total_pixels"] = int(rng.choice([10**6, 20480 * 784, 5 * 10**7]))
        if rng.random() < 0.15:
            element |= {"resized_height": int(rng.integers(20, 900)), "resized_width": int(rng.integers(20, 900))}
        cases.append((element, 2 * int(rng.integers(1, 385)), height, width))
    return cases


def image_elements() -> list[dict]:
    """Elements of messages with a picture each."""
    return [
        {"type": "image", "image": picture("RGB", 301, 200)},
        {"type": "image", "image": picture("RGBA", 99, 140)},
        {"type": "image", "image": picture("LA", 99, 140)},
        {"type": "image", "image": picture("P transparent", 77, 77)},
        {"type": "image", "image": picture("CMYK", 640, 401), "max_pixels": 50176},
        {"type": "image", "image": picture("L", 40, 31), "min_pixels": 50176},
        {"type": "image_url", "image_url": picture("RGB", 9, 700)},
        {"type": "image", "image": picture("RGB", 500, 300), "resized_height": 280, "resized_width": 420},
        {"type": "image", "image": picture("RGB", 300, 500), "min_pixels": 3136, "max_pixels": 3136},
    ]


def frame_list_elements() -> list[dict]:
    """Elements with a video that is a list of frames."""
    frames = [picture("RGB", 200, 130 + seed % 2) for seed in range(5)]
    return [
        {"type": "video", "video": frames},
        {"type": "video", "video": frames[:4], "sample_fps": 4.0, "max_pixels": 151200},
        {"type": "video", "video": frames[:1], "resized_height": 140, "resized_width": 252},
        {"type": "video", "video": frames[:2], "total_pixels": 10**6, "min_pixels": 16 * 784},
    ]


def lossless_video(path: Path, frames: int = 40, size: tuple[int, int] = (96, 64), rate: int = 10) -> Path:
    """An ffv1 video of textures: it decodes to the same pixels under every version of FFmpeg."""
    return write_video(path, [texture(*size, 3, seed) for seed in range(frames)], rate, codec="ffv1", pix_fmt="bgr0")


def write_video(
    path: Path,
    frames: list[np.ndarray],
    rate: int | Fraction = 10,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    times: list[float] | None = None,
    rotation: int = 0,
    codec_options: dict[str, str] | None = None,
    **open_options,
) -> Path:
    """A video of uint8 [H, W, 3] `frames`, shown at `times` (seconds) or at an even `rate`."""
    import av

    with av.open(str(path), "w", **open_options) as container:
        stream = container.add_stream(codec, rate=rate, options=codec_options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.codec_context.gop_size = pix_fmt, gop
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbered_frames(count: int, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    """Frames whose number can be read off their grey: 8 bits as black and white columns, by `read_number`."""
    bits = (np.arange(count)[:, None] >> np.arange(16)) & 1
    columns = np.repeat(bits, size[0] // 16, axis=1) * 255  # [count, W]
    return [np.broadcast_to(row[None, :, None], (size[1], size[0], 3)).astype(np.uint8) for row in columns]


def read_number(frame: np.ndarray) -> int:
    """The number of a frame of `numbered_frames`, uint8 [3, H, W], after encoding and resizing."""
    columns = frame.mean(axis=(0, 1)).reshape(16, -1)
    middle = columns[:, columns.shape[1] // 4 : -(columns.shape[1] // 4)].mean(axis=1)
    return int(((middle > 127) << np.arange(16)).sum())
