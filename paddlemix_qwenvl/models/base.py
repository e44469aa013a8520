"""What the models of all families do between embeddings and logits: packing, steps of generation, loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional as F

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.dtypes import dtype_name
from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.layers.attention import AttentionContext
from paddlemix_qwenvl.layers.kv_cache import KVCache
from paddlemix_qwenvl.models.inputs import check_ids
from paddlemix_qwenvl.models.past import PastKeyValues
from paddlemix_qwenvl.models.pretrained import LoadableModel
from paddlemix_qwenvl.models.prompts import check_mask, check_vocabulary

IGNORED = -100
Repeat = Callable[[Callable[[], paddle.Tensor], Sequence[paddle.Tensor]], paddle.Tensor]  # as `engine.repeats.Repeats`


@dataclass
class PackedPrompt:
    """A padded batch without its padding: `T` tokens of all rows.

    Attributes:
        embeddings: `[T, hidden]`, image and video features in their places.
        position_ids: int64 `[rows, T]`: time, row and column for Qwen2.5-VL, one row for Qwen-VL.
        indices: int64 `[T]`, the tokens' places in the flattened `[B, S]`.
        cu_seqlens: int32 `[B + 1]`.
        rope_deltas: int64 `[B, 1]`, position of a row's next token less `S`.
        shape: `(B, S)`.
    """

    embeddings: paddle.Tensor
    position_ids: paddle.Tensor
    indices: paddle.Tensor
    cu_seqlens: paddle.Tensor
    rope_deltas: paddle.Tensor
    shape: tuple[int, int]


@dataclass
class ModelOutput:
    """Base of what `forward` returns; what is not asked for is None."""

    def __getitem__(self, key: str | int):
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple:
        """What is there, in order."""
        return tuple(value for value in vars(self).values() if value is not None)


class DecoderModel(LoadableModel):
    """Base of the models that generate.

    A subclass has an `lm_head` and offers `decoder`, `pack`, `encode`, and the name below.

    Attributes:
        position_rows: how many positions a token has.
    """

    position_rows = 1

    @property
    def decoder(self) -> nn.Layer:
        """The language model: `(embeddings [T, hidden], AttentionContext) -> [T, hidden]`, its share of `heads`, its `depth`,
        its `blocks` and the `last_norm`."""
        raise NotImplementedError

    def get_output_embeddings(self) -> nn.Layer:
        """The output head."""
        return self.lm_head

    def pack(self, input_ids, attention_mask=None, position_ids=None, *media, past=None) -> PackedPrompt:
        """Take the padding out of a batch, put the features in, work out the positions."""
        raise NotImplementedError

    def position_tables(self, position_ids, ntk_alpha=None):
        """What attention needs to know of positions `[rows, T]`: cosines, sines, and factors of the queries or None.

        `ntk_alpha` is what the rotary base is stretched by, float32 `[T]` or `[1]`; None for nothing.
        """
        tables = self.decoder.rotary_tables(position_ids, self.decoder.frequencies(ntk_alpha))
        return *tables, self.query_scale(position_ids)

    def query_scale(self, position_ids):
        """Factors `[T, 1, 1]` of the queries at positions `[rows, T]`; None for none."""
        return None

    @property
    def scaled_from(self) -> int | None:
        """The first position whose query has a factor other than 1; None for none."""
        return None

    @property
    def stretches(self) -> bool:
        """Whether prompts may stretch the rotary base, which they do not in training."""
        return bool(getattr(self.config, "use_dynamic_ntk", False)) and not self.training

    def ntk_alpha(self, length: int) -> float | None:
        """What a prompt of `length` tokens stretches the rotary base by; None where it stays."""
        return None

    def encode(self, **inputs) -> paddle.Tensor:
        """Features `[tokens, hidden]` of pictures or videos, from `models.prompts.Media.inputs` as tensors."""
        raise NotImplementedError

    def encoding(self, **inputs) -> Iterator:
        """`encode` in pieces of less than a layer: None after each but the last, which gives the features."""
        raise NotImplementedError

    def run(self, prompt: PackedPrompt, labels=None, past: PastKeyValues | None = None, use_cache: bool = False):
        """`(loss or None, logits float32 [B, S, vocab], past or None)`; logits are zero at padding."""
        batch, length = prompt.shape
        if use_cache and past is None:
            past = self.allocate_cache(batch, length)
        alpha = self.ntk_alpha(length) if past is None or past.empty else past.ntk_alpha
        stretch = None if alpha is None else paddle.to_tensor([alpha], dtype="float32")
        tables = self.position_tables(prompt.position_ids, stretch)
        if past is None:
            context = AttentionContext(*tables[:2], prompt.cu_seqlens, query_scale=tables[2])
        else:
            past.ntk_alpha = alpha
            context = past.extend(*tables, prompt.position_ids, prompt.cu_seqlens)
        logits = self.lm_head(self.decoder(prompt.embeddings, context))
        loss = None if labels is None else packed_loss(logits, labels, prompt.indices)
        return loss, ops.rebuild_padding(logits, prompt.indices, batch, length), past

    def allocate_cache(self, batch: int, capacity: int) -> PastKeyValues:
        """An empty cache for `batch` rows of up to `capacity` tokens, in the weights' dtype."""
        return PastKeyValues.allocate(batch, block_size=capacity, **self.cache_sizes())

    def cache_sizes(self) -> dict[str, Any]:
        """What a cache is made of on this rank: `layers`, `kv_heads`, `head_dim` and `dtype`, as in `KVCache.allocate`."""
        heads, dtype = self.decoder.heads, dtype_name(self.get_input_embeddings().dtype)
        return {
            "layers": self.decoder.depth,
            "kv_heads": heads.num_kv_heads,
            "head_dim": heads.head_dim,
            "dtype": dtype,
        }

    def cache_numbers_per_token(self) -> int:
        """Numbers this rank keeps of one token: keys and values of all layers."""
        heads = self.decoder.heads
        return 2 * self.decoder.depth * heads.num_kv_heads * heads.head_dim

    def step(
        self,
        cache: KVCache,
        ids,
        position_ids,
        cu_seqlens,
        lengths,
        block_tables,
        slot_mapping,
        wanted,
        ntk_alpha=None,
        features=None,
        source=None,
        decoding: bool = False,
        scaled: bool = True,
        repeat: Repeat | None = None,
    ):
        """New tokens of some sequences, the one function that generation calls.

        Args:
            cache: written in place.
            ids: int64 `[T]`, the rows' new tokens one after the other.
            position_ids: int64 `[position_rows, T]`.
            cu_seqlens: int32 `[B + 1]`, where each row's new tokens begin.
            lengths: int32 `[B]`, tokens of each row in the cache after this step.
            block_tables: int32 `[B, blocks]`.
            slot_mapping: int32 `[T]`, the slots that the new tokens take.
            wanted: int64 `[R]`, the tokens whose logits are asked for.
            ntk_alpha: float32 `[T]`, what the rotary base is stretched by; None for nothing.
            features: `[F, hidden]`, of images and videos; None for none.
            source: int64 `[T]`, where each token's embedding comes from: `t` for its own, `T + f` for feature `f`.
            decoding: each row has one new token.
            scaled: there may be a position from `scaled_from` on.
            repeat: does what lies between ids and logits; None for doing it here.

        Returns:
            float32 `[R, vocab]`.
        """
        frequencies, scale = self.decoder.frequencies(ntk_alpha), self.query_scale(position_ids) if scaled else None

        def logits():
            tables = self.decoder.rotary_tables(position_ids, frequencies)
            context = AttentionContext(
                *tables, cu_seqlens, cache, slot_mapping, block_tables, lengths, decoding, query_scale=scale
            )
            embeddings = self.get_input_embeddings()(ids)
            if features is not None:
                embeddings = paddle.concat([embeddings, features.astype(embeddings.dtype)]).index_select(source)
            hidden = self.decoder(embeddings, context)
            return self.lm_head(hidden if decoding else hidden.index_select(wanted))

        if repeat is None or scale is not None:
            return logits()
        tensors = ids, position_ids, frequencies, lengths, block_tables, slot_mapping, *cache.keys, *cache.values
        return repeat(logits, tensors)

    def unpadded(self, input_ids, attention_mask):
        """Of a padded batch the mask `[B, S]`, and of its real tokens the places `[T]`, row bounds `[B + 1]` and ids `[T]`.

        Raises:
            PromptError: the ids are no batch or outside the vocabulary, or the mask has another shape.
        """
        check_ids(input_ids)
        mask = paddle.ones_like(input_ids) if attention_mask is None else attention_mask
        check_mask(input_ids.shape, mask.shape)
        indices, cu_seqlens = ops.get_padding_offset(mask)
        ids = input_ids.flatten().index_select(indices)
        if ids.shape[0]:
            check_vocabulary(int(ids.min()), int(ids.max()), self.config.vocab_size)
        return mask, indices, cu_seqlens, ids

    def continued_positions(self, past: PastKeyValues, mask):
        """Positions `[rows, B, S]` and `rope_deltas` of text that goes on after a cache."""
        steps = paddle.cumsum(mask.astype("int64"), axis=-1) - 1
        positions = (past.next_positions.unsqueeze(-1) + steps).unsqueeze(0).expand([self.position_rows, *mask.shape])
        return positions, past.next_positions.unsqueeze(-1) + steps[:, -1:] + 1 - mask.shape[1]


def put_features(embeddings, where, features):
    """`embeddings` `[T, hidden]` with `features` at the places `where` (bool `[T]`), in order.

    Raises:
        PromptError: there are not as many places as features.
    """
    places = paddle.nonzero(where).flatten()
    if places.shape[0] != features.shape[0]:
        raise PromptError(
            f"the text has {places.shape[0]} image or video tokens but there are {features.shape[0]} features: pass the "
            f"processor's outputs on as they are, all of them from one call."
        )
    return paddle.scatter(embeddings, places, features.astype(embeddings.dtype))


def packed_loss(logits, labels, indices):
    """Mean cross entropy of packed `logits` `[T, vocab]` against the next token in `labels` `[B, S]`."""
    following = F.pad(labels[:, 1:], [0, 1], value=IGNORED).flatten().index_select(indices)
    total = F.cross_entropy(logits, following, ignore_index=IGNORED, reduction="sum")
    return total / (following != IGNORED).sum()  # Paddle's own mean counts ignored labels where the index is negative
