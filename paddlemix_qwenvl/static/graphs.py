"""The language graph of an export: a step of the language model, for any runner. Families bring the vision graph."""

from __future__ import annotations

from paddle import nn
from paddle.static import InputSpec

from paddlemix_qwenvl.layers.kv_cache import KVCache


class LanguageGraph(nn.Layer):
    """`DecoderModel.step` with free lengths: prompts, parts of them and single tokens alike."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(
        self,
        ids,
        position_ids,
        cu_seqlens,
        lengths,
        block_tables,
        slot_mapping,
        wanted,
        features,
        source,
        keys,
        values,
        ntk_alpha=None,
    ):
        """Run a step; arguments as in `DecoderModel.step`.

        Args:
            features: float32 `[F, hidden]`; one row of anything where there are none.
            keys, values: the caches of all layers, each `[blocks, kv_heads, block_size, head_dim]`; written in place.
            ntk_alpha: only where the model has dynamic NTK.

        Returns:
            Logits float32 `[R, vocab]`, and the caches.
        """
        cache = KVCache(list(keys), list(values))
        logits = self.model.step(
            cache,
            ids,
            position_ids,
            cu_seqlens,
            lengths,
            block_tables,
            slot_mapping,
            wanted,
            ntk_alpha,
            features,
            source,
        )
        return [logits, *cache.keys, *cache.values]

    def input_spec(self) -> list[InputSpec]:
        """Inputs, in order, with free lengths."""
        config, sizes = self.model.config, self.model.cache_sizes()
        shape = [None, sizes["kv_heads"], None, sizes["head_dim"]]
        caches = [
            [InputSpec(shape, sizes["dtype"], f"{kind}_{layer}") for layer in range(sizes["layers"])]
            for kind in ("keys", "values")
        ]
        return [
            InputSpec([None], "int64", "ids"),
            InputSpec([self.model.position_rows, None], "int64", "position_ids"),
            InputSpec([None], "int32", "cu_seqlens"),
            InputSpec([None], "int32", "lengths"),
            InputSpec([None, None], "int32", "block_tables"),
            InputSpec([None], "int32", "slot_mapping"),
            InputSpec([None], "int64", "wanted"),
            InputSpec([None, config.hidden_size], "float32", "features"),
            InputSpec([None], "int64", "source"),
            *caches,
            *([InputSpec([None], "float32", "ntk_alpha")] if self.model.stretches else []),
        ]
