"""Configuration of Qwen2-VL, with the Hub's names and defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from paddlemix_qwenvl.fields import Count, Text, Whole
from paddlemix_qwenvl.models.config import Epsilon, InnerWidth, Layers, Width
from paddlemix_qwenvl.models.qwen2_5_vl import config_file
from paddlemix_qwenvl.models.qwen2_5_vl.config import Qwen2_5_VLConfig, Qwen2_5_VLVisionConfig
from paddlemix_qwenvl.models.qwen2_vl.sizes import SIZES


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
class Language(config_file.Language):
    """The language model's fields, with the defaults of the 72B."""

    hidden_size: Width = 8192
    intermediate_size: InnerWidth = 29568
    num_hidden_layers: Layers = 80
    num_attention_heads: Width = 64
    num_key_value_heads: Width = 8
    max_position_embeddings: Count = 32768
    rms_norm_eps: Epsilon = 1e-5
    sliding_window: Whole = 4096
    max_window_layers: Whole = 80


@dataclass
class LanguageFile(Language, config_file.LanguageFile):
    """What a `text_config` may hold, or the flat form of a config.json in its place."""


@dataclass
class ConfigFile(LanguageFile):
    """What a config.json may hold."""

    architectures: list[Text] = field(default_factory=lambda: ["Qwen2VLForConditionalGeneration"])
    text_config: LanguageFile | None = None
    vision_config: VisionFile = field(default_factory=VisionFile)
    vision_parallel: Literal["tensor", "data"] = "tensor"


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
    model_fields, file_fields = Language, ConfigFile
    vision_class, sizes = Qwen2VLVisionConfig, SIZES
