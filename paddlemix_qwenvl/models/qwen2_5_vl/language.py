"""The language model of Qwen2.5-VL: Qwen2 with multimodal rotary positions (arXiv:2502.13923, section 2.1.2)."""

from __future__ import annotations

import paddle
from paddle import nn

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.layers.attention import AttentionContext, HeadSplit, causal_attention
from paddlemix_qwenvl.layers.embedding import VocabParallelEmbedding
from paddlemix_qwenvl.layers.linear import MergedColumnParallelLinear, RowParallelLinear
from paddlemix_qwenvl.layers.mlp import SwiGLU
from paddlemix_qwenvl.layers.norm import RMSNorm
from paddlemix_qwenvl.layers.residual import ResidualStream
from paddlemix_qwenvl.models.qwen2_5_vl.config import Qwen2_5_VLConfig


class Attention(nn.Layer):
    """Grouped-query attention with a bias on queries, keys and values."""

    def __init__(self, config: Qwen2_5_VLConfig, layer: int):
        super().__init__()
        self.layer = layer
        heads = HeadSplit.of(config.num_attention_heads, config.num_key_value_heads, config.head_dim)
        self.heads = heads
        width, kv_width = config.hidden_size, config.num_key_value_heads * config.head_dim
        shares = [
            ("q_proj", width, *heads.query_rows),
            ("k_proj", kv_width, *heads.kv_rows),
            ("v_proj", kv_width, *heads.kv_rows),
        ]
        self.qkv_proj = MergedColumnParallelLinear(width, shares, bias=True)
        self.o_proj = RowParallelLinear(width, width, *heads.query_rows, bias=False)

    def forward(self, x, context: AttentionContext):
        return self.o_proj(causal_attention(self.qkv_proj(x), self.heads, context, self.layer))


class DecoderLayer(nn.Layer):
    """Pre-norm transformer block; the residual is added inside the next norm."""

    def __init__(self, config: Qwen2_5_VLConfig, layer: int):
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size, bias=False, unit=config.split_unit)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, stream: ResidualStream, context: AttentionContext):
        stream.x = self.self_attn(stream.normalised(self.input_layernorm), context)
        stream.x = self.mlp(stream.normalised(self.post_attention_layernorm))


class LanguageModel(nn.Layer):
    """Token embedding, decoder layers and the last norm; `model` in the Hub's names."""

    def __init__(self, config: Qwen2_5_VLConfig):
        super().__init__()
        self.mrope_section = config.rope_scaling["mrope_section"]
        self.embed_tokens = VocabParallelEmbedding(config.vocab_size, config.hidden_size, config.initializer_range)
        self.layers = nn.LayerList([DecoderLayer(config, layer) for layer in range(config.num_hidden_layers)])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.heads, self.depth = self.layers[0].self_attn.heads, len(self.layers)
        exponents = paddle.arange(0, config.head_dim, 2, dtype="float32") / config.head_dim
        self.register_buffer("inv_freq", 1.0 / (config.rope_theta**exponents), persistable=False)

    @property
    def blocks(self) -> nn.LayerList:
        """The decoder layers."""
        return self.layers

    @property
    def last_norm(self) -> RMSNorm:
        """What their output goes through."""
        return self.norm

    def frequencies(self, ntk_alpha=None):
        """Radians a position, float32 `[head_dim / 2]`, which are not stretched."""
        return self.inv_freq

    def rotary_tables(self, position_ids, frequencies):
        """Cosines and sines, float32 `[T, head_dim / 2]`, of 3D positions `[3, T]`."""
        return ops.mrope_tables(position_ids, frequencies, self.mrope_section)

    def forward(self, embeddings, context: AttentionContext):
        """Hidden states `[T, hidden]` of packed embeddings `[T, hidden]`, normalised."""
        stream = ResidualStream(embeddings)
        for layer in self.layers:
            layer(stream, context)
        return stream.normalised(self.norm)
