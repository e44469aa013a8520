"""The two graphs of an export: vision, and one step of the language model (prefill and decode alike)."""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.static import InputSpec

from paddlemix_qwenvl.layers.attention import AttentionContext
from paddlemix_qwenvl.layers.cache import KVCache

CANDIDATES = 1024
"""Sampling looks at no more than this many of the likeliest tokens."""


class VisionGraph(nn.Layer):
    """Patches of any number of images of any size to features. The layout comes from the host, which needs no graph for it."""

    def __init__(self, visual: nn.Layer):
        super().__init__()
        self.visual = visual

    def forward(self, pixel_values, order, restore, positions, cu_seqlens, cu_window_seqlens):
        """As `VisionTower.encode`; returns float32 features."""
        features = self.visual.encode(pixel_values, order, restore, positions, cu_seqlens, cu_window_seqlens)
        unused = cu_seqlens[0] + cu_window_seqlens[0]  # 0; a model with one kind of block alone would lose an input
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


class LanguageGraph(nn.Layer):
    """One step: new tokens of every row in, one token a row and the filled caches out.

    Prefill brings a whole prompt and the image features, decode one token a row and no features; the graph is the same. Only
    token ids need to leave the device between steps.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(
        self,
        ids,
        features,
        source,
        position_ids,
        rows,
        slots,
        cu_seqlens,
        lengths,
        seen,
        banned,
        settings,
        uniform,
        keys,
        values,
    ):
        """Run a step.

        Args:
            ids: int64 `[T]`, the rows' new tokens one after the other.
            features: float32 `[F, hidden]`, of images and videos; one row of anything where there are none.
            source: int64 `[T]`, where each token's embedding comes from: `t` for its own, `T + f` for feature `f`.
            position_ids: int64 `[position_rows, T]`.
            rows, slots: int32 `[T]`, the cache row and slot of each token.
            cu_seqlens: int32 `[B + 1]`.
            lengths: int32 `[B]`, slots filled after this step.
            seen: bool `[B, vocab]`, tokens the repetition penalty falls on.
            banned: float32 `[vocab]`, added to the scores (minus infinity while the answer must not end).
            settings: float32 `[4]`: temperature (0 for the likeliest token), top_k (0 for no limit), top_p, repetition penalty.
            uniform: float32 `[B]`, the draws.
            keys, values: the caches of all layers, each `[B, kv_heads, capacity, head_dim]`.

        Returns:
            int64 `[B]` new tokens, `seen` with them, and the caches.
        """
        cache = KVCache(list(keys), list(values), lengths, lengths)
        cos, sin, scale = self.model.position_tables(position_ids, cache)
        context = AttentionContext(cos, sin, cu_seqlens, cache, rows, slots, lengths, fresh=False, query_scale=scale)
        embeddings = self.model.get_input_embeddings()(ids)
        embeddings = paddle.concat([embeddings, features.astype(embeddings.dtype)]).index_select(source)
        hidden = self.model.decoder(embeddings, context)
        logits = self.model.lm_head(hidden.index_select(cu_seqlens[1:] - 1))
        tokens = choose(logits + banned, seen, settings, uniform)
        seen = paddle.logical_or(seen, F.one_hot(tokens, seen.shape[-1]).astype("bool"))
        return [tokens, seen, *cache.keys, *cache.values]

    def input_spec(self) -> list[InputSpec]:
        """Inputs, in order, with free lengths."""
        config, decoder = self.model.config, self.model.decoder
        dtype = str(self.model.get_input_embeddings().weight.dtype).rpartition(".")[2]
        shape = [None, decoder.heads.num_kv_heads, None, decoder.heads.head_dim]
        caches = [[InputSpec(shape, dtype, f"{kind}_{i}") for i in range(decoder.depth)] for kind in ("keys", "values")]
        return [
            InputSpec([None], "int64", "ids"),
            InputSpec([None, config.hidden_size], "float32", "features"),
            InputSpec([None], "int64", "source"),
            InputSpec([self.model.position_rows, None], "int64", "position_ids"),
            InputSpec([None], "int32", "rows"),
            InputSpec([None], "int32", "slots"),
            InputSpec([None], "int32", "cu_seqlens"),
            InputSpec([None], "int32", "lengths"),
            InputSpec([None, config.vocab_size], "bool", "seen"),
            InputSpec([config.vocab_size], "float32", "banned"),
            InputSpec([4], "float32", "settings"),
            InputSpec([None], "float32", "uniform"),
            *caches,
        ]


def choose(logits, seen, settings, uniform):
    """One token a row: as `ops.sample`, with the settings as a tensor, among the `CANDIDATES` likeliest tokens."""
    temperature, top_k, top_p, penalty = settings.split(4)
    logits = paddle.where(seen, paddle.where(logits > 0, logits / penalty, logits * penalty), logits)
    scores, ids = paddle.topk(logits, min(CANDIDATES, logits.shape[-1]))  # [B, K], likeliest first
    rank = paddle.arange(scores.shape[-1]).astype("float32")
    limit = paddle.where(top_k > 0, top_k, paddle.full_like(top_k, CANDIDATES))
    scores = paddle.where(rank < limit, scores, paddle.full_like(scores, -1e30))
    weights = F.softmax(scores / paddle.maximum(temperature, paddle.full_like(temperature, 1e-6)), axis=-1)
    before = paddle.cumsum(weights, axis=-1) - weights
    weights = paddle.where(before < top_p, weights, paddle.zeros_like(weights))
    total = paddle.cumsum(weights, axis=-1)
    place = (total <= uniform.unsqueeze(-1) * total[:, -1:]).astype("int64").sum(-1)
    place = paddle.where(temperature > 0, place, paddle.zeros_like(place))
    return paddle.take_along_axis(ids, place.unsqueeze(-1), axis=-1).squeeze(-1)
