"""Writes golden.npz: what transformers 4.51.3 and qwen_vl_utils 0.0.14 make of the pictures of media_samples.py.

Run it under an environment with torch, transformers==4.51.3, qwen-vl-utils==0.0.14, av and Pillow. torchvision and
decord are not needed: the one function of the former that is called, and the latter's reader, are stood in for here.
"""

import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import av
import media_samples as samples
import numpy as np
import torch
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor, smart_resize


def torchvision_resize(video, size, interpolation, antialias):
    """torchvision.transforms.functional.resize of a uint8 tensor: float32, rounded and clamped."""
    if max(video.stride()) == 0:  # a blank video, whose size alone is wanted
        return torch.zeros(1).expand(*video.shape[:2], *size)
    resized = torch.nn.functional.interpolate(video.float(), size=size, mode=interpolation, antialias=antialias)
    return resized.clamp(0, 255).round().to(torch.uint8)


class DecordReader:
    """decord.VideoReader on PyAV: every frame in order, the header's average frame rate."""

    def __init__(self, path: str):
        with av.open(path) as container:
            self.fps = float(container.streams.video[0].average_rate)
            self.frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]

    def __len__(self) -> int:
        return len(self.frames)

    def get_avg_fps(self) -> float:
        return self.fps

    def get_batch(self, indices):
        return SimpleNamespace(asnumpy=lambda: np.stack([self.frames[index] for index in indices]))


def stand_in(name: str, **members) -> None:
    module = ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module


os.environ["FORCE_QWENVL_VIDEO_READER"] = "decord"
functional = SimpleNamespace(resize=torchvision_resize)
stand_in("decord", VideoReader=DecordReader)
stand_in("torchvision.transforms", functional=functional, InterpolationMode=SimpleNamespace(BICUBIC="bicubic"))
stand_in("torchvision", io=None, transforms=sys.modules["torchvision.transforms"], __version__="0.0")

from qwen_vl_utils import vision_process as reference  # noqa: E402

processor = Qwen2VLImageProcessor(min_pixels=samples.MIN_PIXELS, max_pixels=samples.MAX_PIXELS)


def patches() -> dict[str, np.ndarray]:
    sources = {f"{kind} {w}x{h}": samples.picture(kind, w, h) for kind in samples.KINDS for w, h in samples.SIZES}
    sources |= {f"{kind} 100x63": samples.array(kind, 100, 63) for kind in samples.ARRAYS}
    golden = {}
    for name, source in sources.items():
        for rescale in (True, False) if " 1 " in name else (True,):
            output = processor([source], return_tensors="np", do_rescale=rescale)
            key = f"patches/{name}{'' if rescale else ' unscaled'}"
            golden[key] = samples.summary(output["pixel_values"]).astype(np.float32)
            golden[f"{key}/grid"] = output["image_grid_thw"]
    for frames in (1, 2, 5):
        video = np.stack([samples.texture(99, 70, 3, seed).transpose(2, 0, 1) for seed in range(frames)])
        output = processor(None, videos=[video], return_tensors="np")
        golden[f"video/{frames}"] = samples.summary(output["pixel_values_videos"]).astype(np.float32)
        golden[f"video/{frames}/grid"] = output["video_grid_thw"]
    return golden


def sizes() -> dict[str, np.ndarray]:
    utils = [reference.smart_resize(h, w, 28, least, most) for h, w, least, most in samples.resize_cases().tolist()]
    ours = [smart_resize(h, w, 28, least, most) for h, w, least, most in samples.resize_cases().tolist()]
    small = [reference.smart_resize(h, w, 28) for h, w in samples.small_resize_cases().tolist()]
    frames = []
    for element, nframes, height, width in samples.frame_size_cases():
        blank = torch.zeros(1, dtype=torch.uint8).expand(nframes, 3, height, width)
        reference.VIDEO_READER_BACKENDS["decord"] = lambda _, blank=blank: (blank, {}, 2.0)
        try:
            frames.append(reference.fetch_video({**element, "video": "blank"}).shape[-2:])
        except (AssertionError, AttributeError):  # refused, then tried again with the torchvision that is not there
            frames.append((0, 0))
    reference.VIDEO_READER_BACKENDS["decord"] = reference._read_video_decord
    return {"sizes/processor": ours, "sizes/utils": utils, "sizes/small": small, "sizes/frames": frames}


def sampling() -> dict[str, np.ndarray]:
    counts, rates, indices = [], [], []
    for element, total, rate in samples.sampling_cases():
        try:
            start, end, part = reference.calculate_video_frame_range(element, total, rate)
            nframes = reference.smart_nframes(element, total_frames=part, video_fps=rate)
        except ValueError:
            counts.append(-1)
            continue
        counts.append(nframes)
        rates.append(nframes / max(part, 1e-6) * rate)
        indices += torch.linspace(start, end, nframes).round().long().tolist()
    return {"sampling/counts": counts, "sampling/fps": rates, "sampling/indices": np.array(indices, dtype=np.int32)}


def messages() -> dict[str, np.ndarray]:
    golden = {}
    for number, element in enumerate(samples.image_elements()):
        image = reference.fetch_image(element)
        golden[f"messages/image/{number}"] = samples.summary(np.asarray(image)).astype(np.float32)
        golden[f"messages/image/{number}/size"] = image.size
    with tempfile.TemporaryDirectory() as folder:
        path = str(samples.lossless_video(Path(folder, "lossless.mkv")))
        elements = [*samples.frame_list_elements(), *({"video": path, **s} for s in samples.VIDEO_SETTINGS)]
        for number, element in enumerate(elements):
            video, fps = reference.fetch_video(element, return_video_sample_fps=True)
            golden[f"messages/video/{number}"] = samples.summary(video.numpy()).astype(np.float32)
            golden[f"messages/video/{number}/shape"] = [*video.shape]
            golden[f"messages/video/{number}/fps"] = fps
    return golden


np.savez_compressed(samples.GOLDEN, **patches(), **sizes(), **sampling(), **messages())
