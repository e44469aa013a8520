"""Pictures and videos to patches."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.media import preprocess_images, preprocess_videos
from paddlemix_qwenvl.media.arguments import flat_images, flat_videos
from paddlemix_qwenvl.models.batch import BatchFeature, tensors
from paddlemix_qwenvl.models.call_options import LOADING, check_names, plain_options
from paddlemix_qwenvl.models.processor import ImageProcessor
from paddlemix_qwenvl.models.qwen2_5_vl.image_settings import (
    COUNTED,
    FILES,
    IDENTITY,
    IMAGES,
    SETTINGS,
    patch_arguments,
    picture_settings,
    read_picture_settings,
)

# What transformers' image processors take beside `SETTINGS`: the values that change nothing here.
_ONLY = {
    "data_format": ("channels_first",),
    "device": ("cpu",),
    "disable_grouping": (True, False),
}
OPTIONS = (*SETTINGS, *_ONLY)


class Qwen2_5_VLImageProcessor(ImageProcessor):
    """Resizes pictures to whole patches within pixel limits and cuts them up; see `media.preprocess_images`.

    Args:
        settings: fields of `PictureSettings`, as in the Hub's preprocessor_config.json: `min_pixels` and `max_pixels`, bounds of
            width times height after resizing, or by their newer name `size={"shortest_edge": ..., "longest_edge": ...}`;
            `patch_size`, `temporal_patch_size`, `merge_size`, `image_mean`, `image_std`, `do_rescale`, `rescale_factor`,
            `do_normalize`. Each in `COUNTED` is an attribute, which may be set.

    Raises:
        ConfigurationError: a setting that nobody knows, or a value that cannot be.
    """

    processor_class = "Qwen2_5_VLProcessor"  # by which a folder without config.json is known
    model_input_names = ["pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw"]  # noqa: RUF012

    def __init__(self, **settings):
        check_names(settings, (*SETTINGS, *IDENTITY), "the image processor")
        vars(self).update(picture_settings(plain_options(settings), "the image processor"))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        **settings,
    ):
        """Load from a folder or by name; `settings` go before the folder's.

        Raises:
            ConfigurationError: as above, or files that are missing or wrong.
            DownloadError: a name that cannot be had.
        """
        source = hub.take_source(settings)
        given = {name: value for name, value in settings.items() if name not in LOADING}
        check_names(given, SETTINGS, "the image processor")
        images, _ = read_picture_settings(hub.gather(pretrained_model_name_or_path, FILES, **source))
        return cls(**picture_settings(plain_options(given), "from_pretrained", images))

    @property
    def settings(self) -> dict[str, Any]:
        """What is in force, under the names in `COUNTED`."""
        return {name: getattr(self, name) for name in COUNTED}

    @property
    def size(self) -> Mapping[str, int]:
        """The pixel limits under their newer names; setting it sets them."""
        return MappingProxyType({"shortest_edge": self.min_pixels, "longest_edge": self.max_pixels})

    @size.setter
    def size(self, size: Mapping[str, int]) -> None:
        self.__dict__.update(picture_settings({"size": dict(size)}, "the image processor", self.settings))

    def to_dict(self) -> dict:
        """What is saved, under the name by which transformers knows this image processor."""
        named = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": self.processor_class}
        return {**super().to_dict(), **named}

    def preprocess(self, images=None, videos=None, return_tensors: str | None = None, **overrides) -> BatchFeature:
        """Patches, grids and sizes of images and videos.

        Args:
            images: one picture (path, URL, data URI, PIL, array), a list, or a list for each prompt.
            videos: one video, a list, or a list for each prompt; each a `Video`, a list of pictures or an array
                `[frames, ...]`.
            return_tensors: "pd", "np" or None (also NumPy).
            overrides: settings for this call.

        Raises:
            ConfigurationError: as the class.
            MediaError: a picture that cannot be read or resized.
        """
        given = plain_options(overrides)
        check_names(given, OPTIONS, "the image processor")
        for name, values in _ONLY.items():
            if name in given and given[name] not in values:
                raise ConfigurationError(f"{name} is {given[name]!r}: here it can only be {values[0]!r}, leave it out.")
        current = picture_settings(self.settings, "the image processor", IMAGES)  # attributes may have been set
        arguments = patch_arguments(picture_settings(given, "the image processor's call", current))
        data: dict = {}
        if images := flat_images(images):
            data.update(preprocess_images(images, **arguments))
        if videos := flat_videos(videos):
            data.update(preprocess_videos(videos, **arguments))
        return tensors(data, return_tensors)
