"""Qwen2-VL (arXiv:2409.12191): its own vision tower, the language model of Qwen2.5-VL."""

from __future__ import annotations

from paddlemix_qwenvl.models.qwen2_5_vl.model import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLOutput
from paddlemix_qwenvl.models.qwen2_vl.config import Qwen2VLConfig
from paddlemix_qwenvl.models.qwen2_vl.vision import VisionMLP, make_vision_tower


class Qwen2VLOutput(Qwen2_5_VLOutput):
    """What `forward` returns; as `Qwen2_5_VLOutput`."""


class Qwen2VLForConditionalGeneration(Qwen2_5_VLForConditionalGeneration):
    """Images, videos and text in, text out; arguments as Qwen2.5-VL's, without `second_per_grid_ts`."""

    config_class, output_class = Qwen2VLConfig, Qwen2VLOutput
    vision_mlp = VisionMLP
    make_vision_tower = staticmethod(make_vision_tower)
    prompt_inputs = tuple(
        name for name in Qwen2_5_VLForConditionalGeneration.prompt_inputs if name != "second_per_grid_ts"
    )
