"""Configuration of Qwen2-VL, with the Hub's names and defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from paddlemix_qwenvl.models.config import Width
from paddlemix_qwenvl.models.qwen2_5_vl import config_file
from paddlemix_qwenvl.models.qwen2_5_vl.config import Qwen2_5_VLConfig, Qwen2_5_VLVisionConfig
from paddlemix_qwenvl.models.qwen2_vl.sizes import DEFAULTS, SIZES


def _whole_if_it_is(ratio: float) -> float:
    return int(ratio) if ratio == int(ratio) else ratio


Ratio = Annotated[float, Field(strict=True, ge=0.25, le=64), AfterValidator(_whole_if_it_is)]
"""Of an inner width to the outer one. A whole number stays one: transformers 5 loads no other."""


@dataclass
class Vision(config_file.Patches):
    """The vision tower's fields; `hidden_size` is the width of what comes out, the language model's."""

    embed_dim: Width = 1280
    hidden_size: Width = 3584
    hidden_act: Literal["quick_gelu"] = "quick_gelu"
    mlp_ratio: Ratio = 4


@dataclass
class VisionFile(Vision, config_file.VisionExtras):
    """What a `vision_config` may hold."""


@dataclass
class ConfigFile(config_file.ConfigFile):
    """What a config.json may hold."""

    vision_config: VisionFile = field(default_factory=VisionFile)


class Qwen2VLVisionConfig(Qwen2_5_VLVisionConfig):
    """The vision tower: a ViT in which each patch attends to all of its frame.

    Args:
        source: where the fields come from, for messages.
        given: the fields of `VisionFile`.

    Raises:
        ConfigurationError: values that no tower can have.
    """

    model_type = "qwen2_vl"
    model_fields, file_fields = Vision, VisionFile
    width_field, out_field = "embed_dim", "hidden_size"
    window_tokens = 1 << 20  # as wide as any frame
    tokens_per_second = 1  # a video's positions count its steps

    @property
    def fullatt_block_indexes(self) -> range:
        """All blocks."""
        return range(self.depth)

    @property
    def out_hidden_size(self) -> int:
        """Width of what comes out."""
        return self.hidden_size

    @property
    def intermediate_size(self) -> int:
        """Inner width of a block's MLP."""
        return int(self.embed_dim * self.mlp_ratio)


class Qwen2VLConfig(Qwen2_5_VLConfig):
    """The whole model; forms, arguments and errors as `Qwen2_5_VLConfig`'s."""

    model_type = "qwen2_vl"
    file_fields = ConfigFile
    field_defaults = DEFAULTS
    vision_class, sizes = Qwen2VLVisionConfig, SIZES
