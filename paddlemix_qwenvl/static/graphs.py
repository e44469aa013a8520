"""The language graph of an export: one step of the language model, prefill and decode alike. Families bring the vision graph."""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.static import InputSpec

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.layers.attention import AttentionContext
from paddlemix_qwenvl.layers.kv_cache import KVCache


class LanguageGraph(nn.Layer):
    """One step: new tokens of every row in, one token a row and the filled caches out.

    Prefill brings whole prompts and the image features, decode one token a row; the graph is the same. It returns what its next
    step takes, so that in decoding nothing goes to the device and only the new tokens come back.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(
        self,
        ids,
        features,
        source,
        cu_seqlens,
        position_ids,
        next_positions,
        lengths,
        seen,
        unfinished,
        count,
        ends,
        pad,
        least,
        settings,
        uniform,
        keys,
        values,
        ntk_alpha=1.0,
    ):
        """Run a step.

        Args:
            ids: int64 `[T]`, the rows' new tokens one after the other.
            features: float32 `[F, hidden]`, of images and videos; one row of anything where there are none.
            source: int64 `[T]`, where each token's embedding comes from: `t` for its own, `T + f` for feature `f`.
            cu_seqlens: int32 `[B + 1]`, where each row's new tokens begin.
            position_ids: int64 `[position_rows, T]`.
            next_positions: int64 `[B]`, position of the token that each row gets in this step.
            lengths: int32 `[B]`, slots filled before this step.
            seen: bool `[B, vocab]`, tokens the repetition penalty falls on.
            unfinished: bool `[B]`; the other rows get the pad token.
            count: int64 `[1]`, steps so far.
            ends: bool `[vocab]`, tokens that end a row.
            pad: int64 `[1]`, the pad token.
            least: int64 `[1]`, steps in which no row may end.
            settings, uniform: as in `ops.sample_with_settings`, but `uniform` holds the draws of all steps, `[steps, B]`.
            keys, values: the caches of all layers, each `[B, kv_heads, capacity, head_dim]`; written in place.
            ntk_alpha: float32 `[1]`, what the rotary base is stretched by; only where the model has dynamic NTK.

        Returns:
            `manifest.STATE` after the step, and the caches. A row whose logits are no numbers gets the token -1.
        """
        cache = KVCache(list(keys), list(values), lengths, next_positions, longest=1, ntk_alpha=ntk_alpha)
        token = paddle.arange(ids.shape[0], dtype="int32")
        rows = paddle.searchsorted(cu_seqlens[1:], token, right=True, out_int32=True)
        slots = (lengths - cu_seqlens[:-1]).index_select(rows) + token
        lengths = lengths + cu_seqlens[1:] - cu_seqlens[:-1]
        cos, sin, scale = self.model.position_tables(position_ids, cache)
        context = AttentionContext(cos, sin, cu_seqlens, cache, rows, slots, lengths, fresh=False, query_scale=scale)
        embeddings = self.model.get_input_embeddings()(ids)
        embeddings = paddle.concat([embeddings, features.astype(embeddings.dtype)]).index_select(source)
        hidden = self.model.decoder(embeddings, context)
        logits = self.model.lm_head(hidden.index_select(cu_seqlens[1:] - 1))
        broken = paddle.logical_and(unfinished, paddle.logical_not(logits.sum(axis=-1) < float("inf")))
        banned = paddle.logical_and(ends, count < least)
        logits = paddle.where(banned, paddle.full_like(logits, -1e30), logits)
        tokens = ops.sample_with_settings(logits, seen, settings, uniform.index_select(count).squeeze(0))
        tokens = paddle.where(unfinished, tokens, pad)
        batch, one = paddle.arange(tokens.shape[0], dtype="int64"), paddle.ones([1], "int64")
        state = [
            paddle.where(broken, paddle.full_like(tokens, -1), tokens),
            features[:1],
            batch,
            paddle.arange(tokens.shape[0] + 1, dtype="int32"),
            next_positions.unsqueeze(0).expand([self.model.position_rows, -1]),
            paddle.add(
                next_positions, one
            ),  # Paddle 3.3.1 saves an input instead of an output that is `input + number`
            lengths,
            paddle.logical_or(seen, F.one_hot(tokens, seen.shape[-1]).astype("bool")),
            paddle.logical_and(unfinished, paddle.logical_not(ends.index_select(tokens))),
            paddle.add(count, one),
        ]
        return [*state, *cache.keys, *cache.values]

    def input_spec(self) -> list[InputSpec]:
        """Inputs, in order, with free lengths."""
        config, decoder = self.model.config, self.model.decoder
        shape = [None, decoder.heads.num_kv_heads, None, decoder.heads.head_dim]
        dtype = cache_dtype(self.model)
        caches = [[InputSpec(shape, dtype, f"{kind}_{i}") for i in range(decoder.depth)] for kind in ("keys", "values")]
        return [
            InputSpec([None], "int64", "ids"),
            InputSpec([None, config.hidden_size], "float32", "features"),
            InputSpec([None], "int64", "source"),
            InputSpec([None], "int32", "cu_seqlens"),
            InputSpec([self.model.position_rows, None], "int64", "position_ids"),
            InputSpec([None], "int64", "next_positions"),
            InputSpec([None], "int32", "lengths"),
            InputSpec([None, config.vocab_size], "bool", "seen"),
            InputSpec([None], "bool", "unfinished"),
            InputSpec([1], "int64", "count"),
            InputSpec([config.vocab_size], "bool", "ends"),
            InputSpec([1], "int64", "pad"),
            InputSpec([1], "int64", "least"),
            InputSpec([4], "float32", "settings"),
            InputSpec([None, None], "float32", "uniform"),
            *caches,
            *([InputSpec([1], "float32", "ntk_alpha")] if getattr(config, "use_dynamic_ntk", False) else []),
        ]


def cache_dtype(model) -> str:
    """Of the KV cache: the weights' own, where they are not int8."""
    return str(model.get_input_embeddings().dtype).rpartition(".")[2]
