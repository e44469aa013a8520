"""The vision tower of Qwen2-VL (arXiv:2409.12191, section 2.1): that of Qwen2.5-VL with other blocks, and no windows."""

from __future__ import annotations

import functools

from paddle import nn
from paddle.nn import functional as F

from paddlemix_qwenvl.layers.linear import MergedColumnParallelLinear, RowParallelLinear
from paddlemix_qwenvl.layers.mlp import feed_forward
from paddlemix_qwenvl.layers.norm import LayerNorm
from paddlemix_qwenvl.models.qwen2_5_vl import vision
from paddlemix_qwenvl.models.qwen2_5_vl.vision import NORM_EPSILON, VisionAttention, VisionGraph
from paddlemix_qwenvl.models.qwen2_vl.config import Qwen2VLVisionConfig
from paddlemix_qwenvl.parallel import tensor_parallel

__all__ = ["PatchMerger", "VisionBlock", "VisionGraph", "VisionMLP", "make_vision_tower", "quick_gelu"]


def quick_gelu(x):
    """`x * sigmoid(1.702 x)` (arXiv:1606.08415)."""
    return x * F.sigmoid(1.702 * x)


class VisionMLP(nn.Layer):
    """Two layers with `quick_gelu` between them."""

    def __init__(self, config: Qwen2VLVisionConfig):
        super().__init__()
        start, stop = tensor_parallel().split(config.intermediate_size)
        self.fc1 = MergedColumnParallelLinear(config.width, [(None, config.intermediate_size, start, stop)], bias=True)
        self.fc2 = RowParallelLinear(config.intermediate_size, config.width, start, stop, bias=True)

    def forward(self, x):
        return feed_forward(x, lambda rows: quick_gelu(self.fc1(rows)), self.fc2)


class VisionBlock(vision.VisionBlock):
    """As Qwen2.5-VL's, with layer norms and another MLP."""

    def __init__(self, config: Qwen2VLVisionConfig):
        nn.Layer.__init__(self)
        self.norm1 = LayerNorm(config.width, NORM_EPSILON)
        self.norm2 = LayerNorm(config.width, NORM_EPSILON)
        self.attn = VisionAttention(config)
        self.mlp = VisionMLP(config)


class PatchMerger(vision.PatchMerger):
    """As Qwen2.5-VL's, with a layer norm."""

    norm_class = LayerNorm


make_vision_tower = functools.partial(vision.make_vision_tower, block=VisionBlock, merger=PatchMerger)
