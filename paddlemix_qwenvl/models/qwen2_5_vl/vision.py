"""The vision tower of Qwen2.5-VL (arXiv:2502.13923, section 2.1.1): a ViT on packed windows of native-resolution patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import astuple
from itertools import pairwise

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.device import to_device
from paddlemix_qwenvl.errors import ConfigurationError, ParallelError
from paddlemix_qwenvl.layers.formats import Dense, Int8
from paddlemix_qwenvl.layers.linear import Linear, MergedColumnParallelLinear, RowParallelLinear
from paddlemix_qwenvl.layers.mlp import SwiGLU
from paddlemix_qwenvl.layers.norm import RMSNorm
from paddlemix_qwenvl.layers.residual import ResidualStream
from paddlemix_qwenvl.models.qwen2_5_vl.config import Qwen2_5_VLVisionConfig
from paddlemix_qwenvl.models.qwen2_5_vl.positions import check_patches, vision_layout
from paddlemix_qwenvl.parallel import TensorParallel, tensor_parallel, using

ROPE_THETA = 10000.0
NORM_EPSILON = 1e-6
MANY_PATCHES, HEADS_IN_PARTS = 1024, 4


class PatchEmbed(nn.Layer):
    """One vector a patch: the Hub's 3D convolution over whole patches, as a product."""

    def __init__(self, config: Qwen2_5_VLVisionConfig):
        super().__init__()
        side = config.patch_size
        file_shape = (config.width, config.in_channels, config.temporal_patch_size, side, side)
        self.proj = Linear(config.patch_dim, config.width, bias=False, file_shape=file_shape)

    def forward(self, pixel_values):
        return self.proj(pixel_values)


class VisionAttention(nn.Layer):
    """Attention within each segment of `cu_seqlens`."""

    def __init__(self, config: Qwen2_5_VLVisionConfig):
        super().__init__()
        width, parallel = config.width, tensor_parallel()
        if config.num_heads < parallel.degree:
            raise ParallelError(
                f"{config.num_heads} heads of the vision tower cannot be split over {parallel.degree} ranks: load the model "
                f'with vision_parallel="data", which keeps the tower whole on each rank.'
            )
        first, last = parallel.split(config.num_heads)
        self.num_heads = last - first
        start, stop = first * config.head_dim, last * config.head_dim
        self.qkv = MergedColumnParallelLinear(width, [(None, width, start, stop)] * 3, bias=True)
        self.proj = RowParallelLinear(width, width, start, stop, bias=True)

    def forward(self, stream: ResidualStream, norm: RMSNorm, cos, sin, cu_seqlens):
        narrow = norm.weight.dtype == paddle.bfloat16

        def attended(qkv, heads: int):
            return ops.qkv_attention(qkv, cos, sin, cu_seqlens, heads, heads, narrow=narrow).flatten(1)

        if self._goes_by_heads(stream.x):
            return self.proj(self._by_heads(stream.normalised(norm), attended))
        return self.proj(attended(self.qkv(stream.normalised(norm)), self.num_heads))

    def _goes_by_heads(self, x) -> bool:
        """Whether queries, keys and values of all heads at once would be most of what a block holds, and need not be."""
        if not paddle.in_dynamic_mode() or paddle.is_grad_enabled() or not x.place.is_cpu_place():
            return False
        return x.shape[0] >= MANY_PATCHES and self.num_heads >= HEADS_IN_PARTS and self.qkv.format in (Dense(), Int8())

    def _by_heads(self, x, attended: Callable):
        bounds = [self.num_heads * part // HEADS_IN_PARTS for part in range(HEADS_IN_PARTS + 1)]
        parts = [attended(self.qkv.part(x, *some, self.num_heads), some[1] - some[0]) for some in pairwise(bounds)]
        del x
        return paddle.concat(parts, axis=-1)


class VisionBlock(nn.Layer):
    """Pre-norm transformer block; the residual is added inside the next norm."""

    def __init__(self, config: Qwen2_5_VLVisionConfig):
        super().__init__()
        self.norm1 = RMSNorm(config.width, NORM_EPSILON)
        self.norm2 = RMSNorm(config.width, NORM_EPSILON)
        self.attn = VisionAttention(config)
        self.mlp = SwiGLU(config.width, config.intermediate_size, bias=True)

    def forward(self, stream: ResidualStream, cos, sin, cu_seqlens):
        self.attend(stream, cos, sin, cu_seqlens)
        self.feed(stream)

    def attend(self, stream: ResidualStream, cos, sin, cu_seqlens) -> None:
        """The first half."""
        stream.x = self.attn(stream, self.norm1, cos, sin, cu_seqlens)

    def feed(self, stream: ResidualStream) -> None:
        """The second half."""
        stream.x = self.mlp(stream.normalised(self.norm2))


class PatchMerger(nn.Layer):
    """Each square of `merge x merge` patches becomes one token of the language model's width."""

    norm_class = RMSNorm

    def __init__(self, config: Qwen2_5_VLVisionConfig):
        super().__init__()
        self.width = config.width * config.spatial_merge_size**2
        self.ln_q = self.norm_class(config.width, NORM_EPSILON)
        start, stop = tensor_parallel().split(self.width)
        self.mlp = nn.Sequential(
            MergedColumnParallelLinear(self.width, [(None, self.width, start, stop)], bias=True),
            nn.GELU(),
            RowParallelLinear(self.width, config.out_hidden_size, start, stop, bias=True),
        )

    def forward(self, stream: ResidualStream):
        return self.mlp(stream.normalised(self.ln_q).reshape([-1, self.width]))


class VisionTower(nn.Layer):
    """From patches to features, `visual` in the Hub's names.

    Args:
        block, merger: classes of its blocks and of what ends it.
    """

    def __init__(self, config: Qwen2_5_VLVisionConfig, block: type, merger: type):
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.LayerList([block(config) for _ in range(config.depth)])
        self.merger = merger(config)
        frequencies = paddle.arange(0, config.head_dim // 2, 2, dtype="float32") / (config.head_dim // 2)
        self.register_buffer("inv_freq", 1.0 / (ROPE_THETA**frequencies), persistable=False)

    def forward(self, pixel_values, grid_thw):
        """Features of images or videos.

        Args:
            pixel_values: `[N, channels * temporal_patch * patch * patch]`, as the processor gives them.
            grid_thw: int `[images, 3]`, frames, rows and columns of patches.

        Returns:
            `[N / merge**2, out_hidden_size]`, in the order of the placeholders.

        Raises:
            MediaError: `N` is not what the grids add up to.
        """
        return self.encode(pixel_values, *self._layout(pixel_values, grid_thw))

    def in_pieces(self, pixel_values, grid_thw) -> Iterator:
        """`forward` by halves of blocks: None after each, then the features."""
        order, restore, positions, *bounds = self._layout(pixel_values, grid_thw)
        stream, cos, sin = self._embed(pixel_values, order, positions)
        for index, block in enumerate(self.blocks):
            block.attend(stream, cos, sin, self._segments(index, *bounds))
            yield None
            block.feed(stream)
            yield None
        yield self.merger(stream).index_select(restore)

    def encode(self, pixel_values, order, restore, positions, cu_seqlens, cu_window_seqlens):
        """`forward` after the layout, whose arrays these are: only tensor operations."""
        stream, cos, sin = self._embed(pixel_values, order, positions)
        for index, block in enumerate(self.blocks):
            block(stream, cos, sin, self._segments(index, cu_seqlens, cu_window_seqlens))
        return self.merger(stream).index_select(restore)

    def _layout(self, pixel_values, grid_thw) -> list[paddle.Tensor]:
        grid = _checked(grid_thw, pixel_values)
        layout = vision_layout(grid, self.config.window_tokens, self.config.spatial_merge_size)
        return [to_device(array) for array in astuple(layout)]

    def _embed(self, pixel_values, order, positions):
        angles = (positions.unsqueeze(-1) * self.inv_freq).flatten(1)  # [N, head_dim / 2]: rows first, then columns
        dtype = ops.activation_dtype(self.patch_embed.proj.weight.dtype)
        stream = ResidualStream(self.patch_embed(pixel_values.astype(dtype).index_select(order)))
        return stream, angles.cos(), angles.sin()

    def _segments(self, index: int, cu_seqlens, cu_window_seqlens):
        """Within which a block attends."""
        return cu_seqlens if index in self.config.fullatt_block_indexes else cu_window_seqlens


class DealtVisionTower(VisionTower):
    """The whole tower on each rank: frames are dealt out among the ranks, and their features gathered in order."""

    def __init__(self, config: Qwen2_5_VLVisionConfig, block: type, merger: type):
        with using(TensorParallel()):
            super().__init__(config, block, merger)
        self.parallel = tensor_parallel()

    def forward(self, pixel_values, grid_thw):
        """As in `VisionTower`; every rank takes part, with or without a frame of its own."""
        grid = _checked(grid_thw, pixel_values)
        frames = np.repeat(grid, grid[:, 0], axis=0)  # no patch attends to another frame's
        frames[:, 0] = 1
        patches = frames.prod(-1)
        tokens = patches // self.config.spatial_merge_size**2
        shares = self.parallel.deal(patches.tolist())
        mine = shares[self.parallel.rank]
        if mine:
            rows = to_device(_places(patches, mine))
            features = super().forward(pixel_values.index_select(rows), frames[mine])
        else:
            dtype = ops.activation_dtype(self.patch_embed.proj.weight.dtype)
            features = paddle.zeros([0, self.config.out_hidden_size], dtype)
        self.parallel.meet()
        features = self.parallel.all_gather(features, [int(tokens[share].sum()) for share in shares], axis=0)
        order = np.concatenate([_places(tokens, share) for share in shares])
        return features.index_select(to_device(np.argsort(order)))


def make_vision_tower(
    config: Qwen2_5_VLVisionConfig, vision_parallel: str, block: type = VisionBlock, merger: type = PatchMerger
) -> VisionTower:
    """The tower split over the ranks ("tensor"), or whole on each ("data"); the rest as `VisionTower`.

    Raises:
        ConfigurationError: any other `vision_parallel`.
    """
    if vision_parallel not in ("tensor", "data"):
        raise ConfigurationError(f"vision_parallel is {vision_parallel!r}: it must be 'tensor' or 'data'.")
    tower = VisionTower if vision_parallel == "tensor" else DealtVisionTower
    return tower(config, block, merger)


def _checked(grid_thw, pixel_values) -> np.ndarray:
    grid = np.asarray(grid_thw.numpy() if hasattr(grid_thw, "numpy") else grid_thw)
    check_patches(pixel_values.shape[0], grid)
    return grid


def _places(counts: np.ndarray, chosen: list[int]) -> np.ndarray:
    """Where the `chosen` groups lie in a sequence of groups of `counts` members each."""
    stops = np.cumsum(counts)
    return np.concatenate([np.arange(0), *(np.arange(stops[i] - counts[i], stops[i]) for i in chosen)])


class VisionGraph(nn.Layer):
    """Patches of any number of images or frames of any size to features. The layout comes from the host.

    Windows and positions depend on nothing but the grids, a few numbers: NumPy makes them in less than a millisecond, and in a
    graph they would be loops over a dynamic number of pictures.
    """

    def __init__(self, model):
        super().__init__()
        self.visual = model.visual

    def forward(self, pixel_values, order, restore, positions, cu_seqlens, cu_window_seqlens):
        """As `VisionTower.encode`; returns float32 `[F, hidden]`."""
        features = self.visual.encode(pixel_values, order, restore, positions, cu_seqlens, cu_window_seqlens)
        unused = (
            cu_seqlens[0] + cu_window_seqlens[0]
        )  # 0; Paddle refuses an input that a model with one kind of block leaves out
        return features.astype("float32") + unused.astype("float32")

    def input_spec(self) -> list[InputSpec]:
        """Inputs, in order, with free lengths."""
        return [
            InputSpec([None, self.visual.config.patch_dim], "float32", "pixel_values"),
            InputSpec([None], "int64", "order"),
            InputSpec([None], "int64", "restore"),
            InputSpec([None, 2], "float32", "positions"),
            InputSpec([None], "int32", "cu_seqlens"),
            InputSpec([None], "int32", "cu_window_seqlens"),
        ]
