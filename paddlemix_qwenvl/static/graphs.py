"""The language graph of an export: a step of the language model, for any runner. Families bring the vision graph."""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.static import InputSpec

from paddlemix_qwenvl.layers.kv_cache import KVCache


class LanguageGraph(nn.Layer):
    """`DecoderModel.step` with free lengths: prompts, parts of them and single tokens alike.

    On a GPU it is two graphs in one that share the weights, as steps of single tokens have an attention of their own there.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs: dict, keys: list, values: list):
        """Run a step.

        Args:
            inputs: tensors of `DecoderModel.step` by name. `source` is always there, and `features`, float32, one row of anything
                where there are none; `ntk_alpha` only where the model has dynamic NTK.
            keys, values: the caches of all layers, each `[blocks, kv_heads, block_size, head_dim]`; written in place.

        Returns:
            Logits float32 `[R, vocab]`.
        """
        if not paddle.get_device().startswith("gpu"):
            return self.model.step(KVCache(list(keys), list(values)), **inputs)
        tokens, rows, wanted = (paddle.shape(inputs[name])[0] for name in ("ids", "lengths", "wanted"))
        text = {name: x for name, x in inputs.items() if name not in ("features", "source")}
        return paddle.static.nn.cond(
            paddle.logical_and(tokens == rows, tokens == wanted),
            lambda: self.model.step(KVCache(list(keys), list(values)), **text, decoding=True),
            lambda: self.model.step(KVCache(list(keys), list(values)), **inputs),
        )

    def input_spec(self) -> list:
        """Inputs with free lengths, each under its own name."""
        sizes = self.model.cache_sizes()
        inputs = {
            "ids": ([None], "int64"),
            "position_ids": ([self.model.position_rows, None], "int64"),
            "cu_seqlens": ([None], "int32"),
            "lengths": ([None], "int32"),
            "block_tables": ([None, None], "int32"),
            "slot_mapping": ([None], "int32"),
            "wanted": ([None], "int64"),
            "features": ([None, self.model.config.hidden_size], "float32"),
            "source": ([None], "int64"),
        }
        if self.model.stretches:
            inputs["ntk_alpha"] = [None], "float32"
        layer = [None, sizes["kv_heads"], None, sizes["head_dim"]], sizes["dtype"]
        return [
            {name: InputSpec(*each, name) for name, each in inputs.items()},
            *([InputSpec(*layer, f"{kind}_{i}") for i in range(sizes["layers"])] for kind in ("keys", "values")),
        ]
