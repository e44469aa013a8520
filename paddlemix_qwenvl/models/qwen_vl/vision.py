"""The vision tower of Qwen-VL (arXiv:2308.12966, section 2.1): ViT-bigG and a resampler of one cross-attention layer."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.static import InputSpec

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.errors import ParallelError
from paddlemix_qwenvl.layers.linear import Linear, MergedColumnParallelLinear, RowParallelLinear
from paddlemix_qwenvl.layers.mlp import feed_forward
from paddlemix_qwenvl.layers.norm import LayerNorm
from paddlemix_qwenvl.layers.residual import ResidualStream
from paddlemix_qwenvl.models.qwen_vl.config import QWenVLConfig
from paddlemix_qwenvl.parallel import tensor_parallel

NORM_EPSILON = 1e-6
LEARNED_SIDE = 16  # of the square of learned positions, whatever the picture's size
RESAMPLER_HEAD_DIM = 128


class VisualAttention(nn.Layer):
    """Attention among a picture's patches. The projections of one head, query, key and value, lie side by side."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.head_dim = width // num_heads
        start, stop = _head_rows(num_heads, self.head_dim)
        self.in_proj = MergedColumnParallelLinear(width, [(None, 3 * width, 3 * start, 3 * stop)], bias=True)
        self.out_proj = RowParallelLinear(width, width, start, stop, bias=True)

    def forward(self, x, cu_seqlens):
        heads = self.in_proj(x).reshape([x.shape[0], -1, 3 * self.head_dim])
        q, k, v = heads.split(3, axis=-1)  # [N, H, D] each
        return self.out_proj(ops.varlen_attention(q, k, v, cu_seqlens, cu_seqlens).flatten(1))


class VisualMLP(nn.Layer):
    """Two layers with GELU between them."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        start, stop = tensor_parallel().split(inner)
        self.c_fc = MergedColumnParallelLinear(width, [(None, inner, start, stop)], bias=True)
        self.c_proj = RowParallelLinear(inner, width, start, stop, bias=True)

    def forward(self, x):
        return feed_forward(x, lambda rows: F.gelu(self.c_fc(rows)), self.c_proj)


class VisualBlock(nn.Layer):
    """Pre-norm transformer block; the residual is added inside the next norm."""

    def __init__(self, width: int, num_heads: int, inner: int):
        super().__init__()
        self.ln_1 = LayerNorm(width, NORM_EPSILON)
        self.ln_2 = LayerNorm(width, NORM_EPSILON)
        self.attn = VisualAttention(width, num_heads)
        self.mlp = VisualMLP(width, inner)

    def forward(self, stream: ResidualStream, cu_seqlens):
        self.attend(stream, cu_seqlens)
        self.feed(stream)

    def attend(self, stream: ResidualStream, cu_seqlens) -> None:
        """The first half."""
        stream.x = self.attn(stream.normalised(self.ln_1), cu_seqlens)

    def feed(self, stream: ResidualStream) -> None:
        """The second half."""
        stream.x = self.mlp(stream.normalised(self.ln_2))


class Blocks(nn.Layer):
    """The blocks, under the Hub's name."""

    def __init__(self, width: int, num_heads: int, inner: int, layers: int):
        super().__init__()
        self.resblocks = nn.LayerList([VisualBlock(width, num_heads, inner) for _ in range(layers)])

    def forward(self, x, cu_seqlens):
        stream = ResidualStream(x)
        for block in self.resblocks:
            block(stream, cu_seqlens)
        return stream.total()


class CrossAttention(nn.Layer):
    """Multi-head attention with the parameters of PyTorch's: one matrix for the projections of queries, keys and values."""

    def __init__(self, width: int):
        super().__init__()
        start, stop = _head_rows(width // RESAMPLER_HEAD_DIM, RESAMPLER_HEAD_DIM)
        self.width = stop - start
        projections = MergedColumnParallelLinear(width, [(None, width, start, stop)] * 3, bias=True)
        self.in_proj_weight, self.in_proj_bias = projections.weight, projections.bias
        self.out_proj = RowParallelLinear(width, width, start, stop, bias=True)

    def forward(self, query, key, value, pictures: int, cu_seqlens_q, cu_seqlens_k):
        """`query` is the same for all pictures; `key` and `value` are packed."""
        q, k, v = (self._project(x, part) for part, x in enumerate((query, key, value)))
        q = q.tile([pictures, 1, 1])
        return self.out_proj(ops.varlen_attention(q, k, v, cu_seqlens_q, cu_seqlens_k).flatten(1))

    def _project(self, x, part: int):
        rows = slice(part * self.width, (part + 1) * self.width)
        projected = ops.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])
        return projected.reshape([x.shape[0], -1, RESAMPLER_HEAD_DIM])  # [T, H, D]


class Resampler(nn.Layer):
    """A fixed number of learned queries gather what a picture's patches hold; positions are added to queries and keys."""

    def __init__(self, n_queries: int, width: int, patch_width: int, patches: int):
        super().__init__()
        side = math.isqrt(n_queries)
        self.register_buffer("resizing", paddle.to_tensor(bicubic(side, patches)), persistable=False)
        positions = nn.initializer.Assign(sincos_positions(width, side))
        self.pos_embed = self.create_parameter([n_queries, width], default_initializer=positions)
        self.pos_embed.stop_gradient = True
        self.query = self.create_parameter(
            [n_queries, width], default_initializer=nn.initializer.TruncatedNormal(std=0.02)
        )
        self.kv_proj = nn.Identity() if patch_width == width else Linear(patch_width, width, bias=False)
        self.attn = CrossAttention(width)
        self.ln_q = LayerNorm(width, NORM_EPSILON)
        self.ln_kv = LayerNorm(width, NORM_EPSILON)

    def forward(self, x, pictures: int, cu_seqlens):
        """`x`: `[pictures * patches, patch_width]`, or float32 beside float16 -> `[pictures * n_queries, width]`."""
        n_queries = self.query.shape[0]
        values = self.ln_kv(self.kv_proj(x)).astype(ops.activation_dtype(self.query.dtype))
        positions = self.pos_embed.astype(values.dtype)
        keys = _add_positions(values, paddle.matmul(self.resizing, self.pos_embed.astype("float32")))
        queries = self.ln_q(self.query.astype(values.dtype)) + positions
        cu_queries = paddle.arange(0, (pictures + 1) * n_queries, n_queries, dtype="int32")
        return self.attn(queries, keys, values, pictures, cu_queries, cu_seqlens)


class VisionTransformer(nn.Layer):
    """From pictures to features, `visual` in the Hub's names."""

    def __init__(self, config: QWenVLConfig):
        super().__init__()
        visual, width, output = config.visual, config.visual["width"], config.visual["output_dim"]
        self.side, self.patch, self.n_queries = config.patches, visual["patch_size"], visual["n_queries"]
        self.conv1 = Linear(
            3 * self.patch**2, width, bias=False, file_shape=(width, 3, visual["patch_size"], visual["patch_size"])
        )
        normal = nn.initializer.Normal(std=width**-0.5)
        self.positional_embedding = self.create_parameter([LEARNED_SIDE**2, width], default_initializer=normal)
        self.register_buffer("resizing", paddle.to_tensor(bicubic(LEARNED_SIDE, self.side)), persistable=False)
        self.ln_pre = LayerNorm(width, NORM_EPSILON)
        self.transformer = Blocks(width, visual["heads"], int(width * visual["mlp_ratio"]), visual["layers"])
        self.attn_pool = Resampler(self.n_queries, output, width, self.side)
        self.ln_post = LayerNorm(output, NORM_EPSILON)
        self.proj = self.create_parameter([output, output], default_initializer=nn.initializer.Normal(std=output**-0.5))

    def forward(self, images):
        """Features of pictures.

        Args:
            images: `[pictures, 3, image_size, image_size]`, as the processor gives them.

        Returns:
            `[pictures, n_queries, hidden]`.
        """
        x, pictures, cu_seqlens = self._embed(images)
        return self._pool(self.transformer(x, cu_seqlens), pictures, cu_seqlens)

    def in_pieces(self, images) -> Iterator:
        """`forward` by halves of blocks: None after each, then the features of all pictures, `[pictures * n_queries, hidden]`."""
        x, pictures, cu_seqlens = self._embed(images)
        stream = ResidualStream(x)
        for block in self.transformer.resblocks:
            block.attend(stream, cu_seqlens)
            yield None
            block.feed(stream)
            yield None
        yield self._pool(stream.total(), pictures, cu_seqlens).flatten(0, 1)

    def _embed(self, images):
        pictures, side, patch = images.shape[0], self.side, self.patch
        x = images.astype(ops.activation_dtype(self.conv1.weight.dtype))
        x = x.reshape([pictures, 3, side, patch, side, patch]).transpose([0, 2, 4, 1, 3, 5])
        x = self.conv1(x.reshape([pictures * side * side, -1]))  # [pictures * patches, width]
        positions = paddle.matmul(self.resizing, self.positional_embedding.astype("float32"))
        x = self.ln_pre(_add_positions(x, positions))
        return x, pictures, paddle.arange(0, (pictures + 1) * side * side, side * side, dtype="int32")

    def _pool(self, x, pictures: int, cu_seqlens):
        x = self.ln_post(self.attn_pool(x, pictures, cu_seqlens))
        return paddle.matmul(x, self.proj.astype(x.dtype)).reshape([pictures, self.n_queries, -1])


def _head_rows(num_heads: int, head_dim: int) -> tuple[int, int]:
    """First and last-plus-one row of this rank's heads."""
    parallel = tensor_parallel()
    if num_heads < parallel.degree:
        raise ParallelError(
            f"{num_heads} heads of the vision tower cannot be split over {parallel.degree} ranks: use {num_heads} at most."
        )
    first, last = parallel.split(num_heads)
    return first * head_dim, last * head_dim


def _add_positions(x, positions):
    """`x` `[pictures * patches, width]` plus `positions` `[patches, width]` for each picture."""
    return (x.reshape([-1, *positions.shape]) + positions.astype(x.dtype)).flatten(0, 1)


def bicubic(before: int, after: int) -> np.ndarray:
    """Bicubic interpolation from a square of `before * before` positions to one of `after * after` as the matrix that it is,
    float32 `[after * after, before * before]`.

    Source: Keys 1981 with a = -0.75, pixels' centres aligned and borders repeated, as `torch.nn.functional.interpolate` has it.
    """
    places, a = (np.arange(after) + 0.5) * before / after - 0.5, -0.75
    weights = np.zeros([after, before])
    for offset in (-1, 0, 1, 2):
        taps = np.floor(places) + offset
        d = np.abs(places - taps)
        near, far = ((a + 2) * d - (a + 3)) * d**2 + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        np.add.at(weights, (np.arange(after), taps.clip(0, before - 1).astype(int)), np.where(d <= 1, near, far))
    return np.kron(weights, weights).astype(np.float32)


def sincos_positions(width: int, side: int) -> np.ndarray:
    """2D sine-cosine positions, float32 `[side * side, width]`: columns in the first half, rows in the second.

    Source: `get_2d_sincos_pos_embed` of MAE (arXiv:2111.06377).
    """
    frequencies = 1 / 10000 ** (np.arange(width // 4, dtype=np.float32) / (width / 4))
    rows, columns = np.divmod(np.arange(side * side), side)
    angles = [place[:, None] * frequencies for place in (columns, rows)]
    return np.concatenate([half for angle in angles for half in (np.sin(angle), np.cos(angle))], axis=1).astype(
        np.float32
    )


class VisionGraph(nn.Layer):
    """Any number of pictures of the model's one size to features."""

    def __init__(self, model):
        super().__init__()
        self.visual, self.side = model.transformer.visual, model.config.visual["image_size"]

    def forward(self, images):
        """`images` as the processor gives them; returns float32 `[F, hidden]`."""
        return self.visual(images).flatten(0, 1).astype("float32")

    def input_spec(self) -> list[InputSpec]:
        """The input, with a free number of pictures."""
        return [InputSpec([None, 3, self.side, self.side], "float32", "images")]
