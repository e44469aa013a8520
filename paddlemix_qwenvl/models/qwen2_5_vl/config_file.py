"""What a config.json of Qwen2.5-VL may hold, with the Hub's names and the defaults of the 7B."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from paddlemix_qwenvl.fields import Count, Share, Text, Whole
from paddlemix_qwenvl.models.config import (
    Deviation,
    DType,
    Epsilon,
    HostFields,
    InnerWidth,
    Layers,
    Off,
    PatchSize,
    RopeBase,
    Side,
    Vocabulary,
    Width,
)


@dataclass
class Patches:
    """A vision tower's fields that do not depend on its blocks."""

    depth: Layers = 32
    num_heads: Width = 16
    in_channels: Side = 3
    patch_size: PatchSize = 14
    spatial_merge_size: Side = 2
    temporal_patch_size: Side = 2


@dataclass
class Vision(Patches):
    """The vision tower's fields."""

    hidden_size: Width = 1280
    hidden_act: Literal["silu"] = "silu"
    intermediate_size: InnerWidth = 3420
    tokens_per_second: Count = 2
    window_size: Count = 112
    out_hidden_size: Width = 3584
    fullatt_block_indexes: list[Whole] = field(default_factory=lambda: [7, 15, 23, 31])


@dataclass
class Rope:
    """Rotary positions under every name that they have had; the sections count frequencies of time, row and column."""

    type: Literal["mrope", "default"] | None = None
    rope_type: Literal["mrope", "default"] | None = None
    mrope_section: Annotated[list[Whole], Field(min_length=3, max_length=3)] | None = None
    rope_theta: RopeBase | None = None


@dataclass
class VisionRope:
    """What transformers 5 says of the tower's positions, which are always the same."""

    rope_type: Literal["axial", "default"] = "axial"
    rope_theta: Annotated[float, Field(strict=True, ge=10000, le=10000)] = 10000.0


@dataclass
class VisionExtras:
    """What a `vision_config` may hold beside the tower's fields: `in_chans` is an older name of `in_channels`."""

    in_chans: Side | None = None
    spatial_patch_size: PatchSize | None = None
    initializer_range: Deviation | None = None
    dtype: DType | None = None
    torch_dtype: DType | None = None
    model_type: Text | None = None
    rope_parameters: VisionRope | None = None


@dataclass
class VisionFile(Vision, VisionExtras):
    """What a `vision_config` may hold."""


@dataclass
class Language:
    """The language model's fields, and the tokens between which pictures stand."""

    vocab_size: Vocabulary = 152064
    hidden_size: Width = 3584
    intermediate_size: InnerWidth = 18944
    num_hidden_layers: Layers = 28
    num_attention_heads: Width = 28
    num_key_value_heads: Width = 4
    hidden_act: Literal["silu"] = "silu"
    max_position_embeddings: Count = 128000
    initializer_range: Deviation = 0.02
    rms_norm_eps: Epsilon = 1e-6
    rope_theta: RopeBase = 1000000.0
    use_sliding_window: Off = False
    sliding_window: Whole = 32768
    max_window_layers: Whole = 28
    attention_dropout: Share = 0.0
    vision_start_token_id: Whole = 151652
    vision_end_token_id: Whole = 151653
    vision_token_id: Whole = 151654
    image_token_id: Whole = 151655
    video_token_id: Whole = 151656


@dataclass
class LanguageFile(Language, HostFields):
    """What a `text_config` may hold, or the flat form of a config.json in its place."""

    rope_scaling: Rope | None = None
    rope_parameters: Rope | None = None
    model_type: Text | None = None
    layer_types: list[Literal["full_attention"]] | None = None
    head_dim: Count | None = None


@dataclass
class ConfigFile(LanguageFile):
    """What a config.json may hold. transformers 4.52 and later nest the language model, 4.57 keeps the flat fields beside it."""

    architectures: list[Text] = field(default_factory=lambda: ["Qwen2_5_VLForConditionalGeneration"])
    text_config: LanguageFile | None = None
    vision_config: VisionFile = field(default_factory=VisionFile)
    vision_parallel: Literal["tensor", "data"] = "tensor"
