"""The language model of Qwen-VL: Qwen-7B (arXiv:2308.12966, section 2.1; arXiv:2309.16609, section 2)."""

from __future__ import annotations

import math

import paddle
from paddle import nn

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.layers.attention import AttentionContext, HeadSplit, causal_attention
from paddlemix_qwenvl.layers.embedding import VocabParallelEmbedding
from paddlemix_qwenvl.layers.linear import MergedColumnParallelLinear, RowParallelLinear, gate_up_linear
from paddlemix_qwenvl.layers.mlp import feed_forward
from paddlemix_qwenvl.layers.norm import RMSNorm
from paddlemix_qwenvl.layers.residual import ResidualStream
from paddlemix_qwenvl.models.qwen_vl.config import QWenVLConfig
from paddlemix_qwenvl.models.qwen_vl.vision import VisionTransformer
from paddlemix_qwenvl.parallel import tensor_parallel


class Attention(nn.Layer):
    """Multi-head attention with a bias on queries, keys and values."""

    def __init__(self, config: QWenVLConfig, layer: int):
        super().__init__()
        self.layer, width = layer, config.hidden_size
        self.heads = HeadSplit.of(config.num_attention_heads, config.num_attention_heads, config.head_dim)
        rows = self.heads.query_rows
        self.c_attn = MergedColumnParallelLinear(width, [(None, width, *rows)] * 3, bias=True)
        self.c_proj = RowParallelLinear(width, width, *rows, bias=not config.no_bias)

    def forward(self, x, context: AttentionContext):
        return self.c_proj(causal_attention(self.c_attn(x), self.heads, context, self.layer))


class MLP(nn.Layer):
    """SwiGLU: `w2` is the gate."""

    def __init__(self, config: QWenVLConfig):
        super().__init__()
        size, bias = config.intermediate_size // 2, not config.no_bias
        start, stop = tensor_parallel().split(size, config.split_unit)
        self.w2_w1 = gate_up_linear(config.hidden_size, size, bias, names=("w2", "w1"), unit=config.split_unit)
        self.c_proj = RowParallelLinear(size, config.hidden_size, start, stop, bias)

    def forward(self, x):
        return feed_forward(x, self.w2_w1, self.c_proj)


class Block(nn.Layer):
    """Pre-norm transformer block; the residual is added inside the next norm."""

    def __init__(self, config: QWenVLConfig, layer: int):
        super().__init__()
        self.ln_1 = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, stream: ResidualStream, context: AttentionContext):
        stream.x = self.attn(stream.normalised(self.ln_1), context)
        stream.x = self.mlp(stream.normalised(self.ln_2))


class Transformer(nn.Layer):
    """Token embedding, blocks, the last norm and the vision tower; `transformer` in the Hub's names."""

    def __init__(self, config: QWenVLConfig):
        super().__init__()
        self.wte = VocabParallelEmbedding(config.vocab_size, config.hidden_size, config.initializer_range)
        self.h = nn.LayerList([Block(config, layer) for layer in range(config.num_hidden_layers)])
        self.ln_f = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.visual = VisionTransformer(config)
        self.heads, self.depth = self.h[0].attn.heads, len(self.h)
        self.base, self.head_dim = float(config.rotary_emb_base), config.head_dim
        exponents = paddle.arange(0, self.head_dim, 2, dtype="float32") / self.head_dim
        self.register_buffer("inv_freq", 1.0 / self.base**exponents, persistable=False)

    @property
    def blocks(self) -> nn.LayerList:
        """The decoder layers."""
        return self.h

    @property
    def last_norm(self) -> RMSNorm:
        """What their output goes through."""
        return self.ln_f

    def frequencies(self, ntk_alpha=None):
        """Radians a position, float32 `[head_dim / 2]`; `[T, head_dim / 2]` where `ntk_alpha`, float32 `[T]` or `[1]`, stretches
        the base of each token.
        """
        if ntk_alpha is None:
            return self.inv_freq
        exponents = paddle.arange(0, self.head_dim, 2, dtype="float32") / self.head_dim
        return 1.0 / (self.base * ntk_alpha.unsqueeze(-1) ** (self.head_dim / (self.head_dim - 2))) ** exponents

    def rotary_tables(self, position_ids, frequencies):
        """Cosines and sines, float32 `[T, head_dim / 2]`, of positions `[1, T]`."""
        return ops.mrope_tables(position_ids, frequencies, [self.head_dim // 2])

    def forward(self, embeddings, context: AttentionContext):
        """Hidden states `[T, hidden]` of packed embeddings `[T, hidden]`, normalised."""
        stream = ResidualStream(embeddings)
        for block in self.h:
            block(stream, context)
        return stream.normalised(self.ln_f)


def logn_scale(position_ids, seq_length: int):
    """Factors `[T, 1, 1]` of the queries at positions `[T]`: the logarithm of the tokens so far to base `seq_length`, at least 1.

    Source: log-n attention scaling (Su 2021; arXiv:2309.16609, section 2.3).
    """
    tokens = (position_ids + 1).astype("float32")
    return (tokens.log() / math.log(seq_length)).clip(min=1.0).reshape([-1, 1, 1])
