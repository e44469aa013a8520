"""How pictures are resized and cut up, as a folder's files and a call's arguments say. Needs no Paddle.

Source of names, defaults and which file goes first: Qwen2VLImageProcessor and Qwen2VLVideoProcessor of transformers 4.51.3,
4.57.6 and 5.24.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.fields import (
    Always,
    Count,
    Flag,
    Never,
    Text,
    Whole,
    checked,
    optional_fields,
    read_object,
    wrong,
)
from paddlemix_qwenvl.media.patches import IMAGE_MEAN, IMAGE_STD

PREPROCESSOR, VIDEO_PREPROCESSOR = "preprocessor_config.json", "video_preprocessor_config.json"
PROCESSOR = "processor_config.json"
FILES = (PREPROCESSOR, VIDEO_PREPROCESSOR, PROCESSOR, "config.json")

Side = Annotated[int, Field(strict=True, ge=1, le=64)]
LeastPixels = Annotated[int, Field(strict=True, ge=1, le=2**25)]  # so many are made of the smallest picture

Mean = Annotated[float, Field(strict=True, ge=-1e4, le=1e4)]
Factor = Annotated[float, Field(strict=True, ge=1e-6, le=1e4)]


Size = optional_fields("Size", (LeastPixels, "shortest_edge min_pixels"), (Count, "longest_edge max_pixels"))
"""Bounds of width times height, under either pair of names."""


@dataclass(kw_only=True)
class PictureSettings:
    """What may be said; of some, only what is done in any case."""

    min_pixels: LeastPixels | None = None
    max_pixels: Count | None = None
    size: Size | None = None
    patch_size: Side = 14
    temporal_patch_size: Side = 2
    merge_size: Side = 2
    image_mean: Mean | tuple[Mean, Mean, Mean] = IMAGE_MEAN
    image_std: Factor | tuple[Factor, Factor, Factor] = IMAGE_STD
    do_rescale: Flag = True
    rescale_factor: Factor = 1 / 255
    do_normalize: Flag = True
    do_resize: Always = True
    do_convert_rgb: Always = True
    do_center_crop: Never = False
    do_pad: Never = False
    cap_pixels_per_frame: Never = False
    resample: Literal[3] = 3  # bicubic
    processor_class: Text | None = None
    image_processor_type: Text | None = None
    video_processor_type: Text | None = None

    def limits(self) -> dict[str, int]:
        """`min_pixels` and `max_pixels`, as far as they are said."""
        size = self.size or Size()
        least = self.min_pixels or size.shortest_edge or size.min_pixels
        most = self.max_pixels or size.longest_edge or size.max_pixels
        return {name: pixels for name, pixels in (("min_pixels", least), ("max_pixels", most)) if pixels}


IDENTITY = ("processor_class", "image_processor_type", "video_processor_type")
SETTINGS = tuple(f.name for f in fields(PictureSettings) if f.name not in IDENTITY)
COUNTED = (
    *("min_pixels", "max_pixels", "patch_size", "temporal_patch_size", "merge_size"),
    *("image_mean", "image_std", "do_rescale", "rescale_factor", "do_normalize"),
)
"""Those that can be more than one thing, once `size` is part of the first two."""
IMAGES = {name: getattr(PictureSettings(), name) for name in COUNTED}
IMAGES |= {"min_pixels": 56 * 56, "max_pixels": 1280 * 28 * 28}
VIDEOS = IMAGES | {"min_pixels": 128 * 28 * 28, "max_pixels": 768 * 28 * 28}


_Processor = optional_fields(
    "_Processor", (dict[str, Any], "image_processor video_processor"), (Text, "processor_class")
)


@dataclass(kw_only=True)
class _Vision:
    patch_size: Whole = 14
    temporal_patch_size: Whole = 2
    spatial_merge_size: Whole = 2


ModelFacts = optional_fields(
    "ModelFacts",
    (_Vision, "vision_config"),
    (Whole, "image_token_id video_token_id vision_start_token_id vision_end_token_id"),
)
"""What in the model's config.json has to agree with its processor."""


def picture_settings(given: Mapping[str, Any], source: str | Path, base: Mapping[str, Any] = IMAGES) -> dict:
    """`base` with what is `given`, under the names in `COUNTED`.

    Args:
        given: as in preprocessor_config.json; names that are not in `SETTINGS` are passed over.
        source: what gave them, for the message.

    Raises:
        ConfigurationError: a value that cannot be, or that asks for what is not done.
    """
    found = checked(PictureSettings, given, source)
    said = {name: getattr(found, name) for name in COUNTED if given.get(name) is not None}
    settings = {**base, **said, **found.limits()}
    if settings["min_pixels"] > settings["max_pixels"]:
        raise wrong(source, "min_pixels", settings["min_pixels"], f"at most max_pixels, {settings['max_pixels']}")
    return settings


def read_picture_settings(folder: Path) -> tuple[dict, dict]:
    """Settings of a folder for images, and for videos.

    Raises:
        ConfigurationError: no file of them, a value that is wrong, or one that is not the model's of the same folder.
    """
    path = folder / PROCESSOR
    nested = checked(_Processor, read_object(path), path) if path.is_file() else _Processor()
    images = _found(nested.image_processor, path, folder / PREPROCESSOR)
    videos = _found(nested.video_processor, path, folder / VIDEO_PREPROCESSOR)
    if images is None:
        raise ConfigurationError(f"{folder} holds neither {PREPROCESSOR} nor {PROCESSOR}: download one of them, too.")
    settings = picture_settings(*images), picture_settings(*(videos or images), VIDEOS if videos else IMAGES)
    vision = read_model_facts(folder).vision_config
    if vision is not None:
        _check_model(settings[0], images[1], vision)
        _check_model(settings[1], (videos or images)[1], vision)
    return settings


def patch_arguments(settings: Mapping[str, Any]) -> dict:
    """Settings as arguments of `media.preprocess_images` and `media.preprocess_videos`."""
    arguments = {name: settings[name] for name in COUNTED if name != "do_normalize"}
    return arguments if settings["do_normalize"] else {**arguments, "image_mean": 0.0, "image_std": 1.0}


def read_model_facts(folder: Path) -> ModelFacts:
    """Those of the folder's config.json, none if it has no such file.

    Raises:
        ConfigurationError: it cannot be read.
    """
    path = folder / "config.json"
    return checked(ModelFacts, read_object(path) if path.is_file() else {}, path)


def _found(nested: dict | None, processor: Path, own: Path) -> tuple[dict, Path] | None:
    """Settings and the file that they stand in: `processor` if it holds them, else a file of their own."""
    if nested is not None:
        return nested, processor
    return (read_object(own), own) if own.is_file() else None


def _check_model(settings: dict, source: Path, vision: _Vision) -> None:
    model_names = {"merge_size": "spatial_merge_size"}
    for name in ("patch_size", "temporal_patch_size", "merge_size"):
        wanted = getattr(vision, model_names.get(name, name))
        if settings[name] != wanted:
            raise wrong(source, name, settings[name], f"{wanted}, as config.json says")
