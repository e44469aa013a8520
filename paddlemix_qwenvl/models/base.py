"""What the models of all families do between embeddings and tokens: packing, prefill, decode, loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import paddle
from paddle import nn
from paddle.nn import functional as F

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.dtypes import dtype_name
from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.layers.attention import AttentionContext
from paddlemix_qwenvl.layers.kv_cache import KVCache
from paddlemix_qwenvl.media import ContentCache
from paddlemix_qwenvl.models.inputs import check_ids
from paddlemix_qwenvl.models.pretrained import LoadableModel

IGNORED = -100
REMEMBERED_BYTES = 256 << 20  # 64 pictures of Qwen-VL, or some 80 of Qwen2.5-VL 3B with 784 tokens each in bfloat16


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

    A subclass has an `lm_head` and offers `decoder`, `pack`, `position_tables`, and the two names below.

    Attributes:
        position_rows: how many positions a token has.
        prompt_inputs: arguments of `pack` that a call of `generate` may bring.
    """

    position_rows = 1
    _remembered: ContentCache | None = None

    def train(self) -> None:
        """As in `nn.Layer`; features of pictures seen so far are forgotten."""
        self._remembered = None
        super().train()

    def recall(self, keys: Sequence[bytes], encode: Callable[[list[int]], Sequence]) -> list:
        """Features of pictures by the keys of their content; those not seen before are made by `encode(their indices)`."""
        self._remembered = self._remembered or ContentCache(REMEMBERED_BYTES)
        found = {key: self._remembered.get(key) for key in keys}
        new = {key: index for index, key in enumerate(keys) if found[key] is None}
        for key, features in zip(new, encode(list(new.values())) if new else (), strict=True):
            found[key] = features
            self._remembered.put(key, features, features.size * features.element_size())
        return [found[key] for key in keys]

    @property
    def decoder(self) -> nn.Layer:
        """The language model: `(embeddings [T, hidden], AttentionContext) -> [T, hidden]`, its share of `heads`, its `depth`."""
        raise NotImplementedError

    def get_output_embeddings(self) -> nn.Layer:
        """The output head."""
        return self.lm_head

    def pack(self, input_ids, attention_mask=None, position_ids=None, *media, cache=None) -> PackedPrompt:
        """Take the padding out of a batch, put the features in, work out the positions."""
        raise NotImplementedError

    def position_tables(self, position_ids, cache: KVCache | None, length: int | None = None):
        """What attention needs to know of positions `[rows, T]`: cosines, sines, and factors of the queries or None.

        `length` is that of the padded prompt, None in decoding.
        """
        raise NotImplementedError

    def run(self, prompt: PackedPrompt, labels=None, cache: KVCache | None = None, use_cache: bool = False):
        """`(loss or None, logits float32 [B, S, vocab], cache or None)`; logits are zero at padding."""
        batch, length = prompt.shape
        if use_cache and cache is None:
            cache = self.allocate_cache(batch, length)
        logits = self.lm_head(self.decoder(prompt.embeddings, self.context(prompt, cache)))
        loss = None if labels is None else packed_loss(logits, labels, prompt.indices)
        return loss, ops.rebuild_padding(logits, prompt.indices, batch, length), cache

    def allocate_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache for `batch` rows of up to `capacity` tokens, in the weights' dtype."""
        heads = self.decoder.heads
        dtype = dtype_name(self.get_input_embeddings().dtype)
        return KVCache.allocate(self.decoder.depth, batch, heads.num_kv_heads, capacity, heads.head_dim, dtype)

    def cache_numbers_per_token(self) -> int:
        """Numbers this rank keeps of one token: keys and values of all layers."""
        heads = self.decoder.heads
        return 2 * self.decoder.depth * heads.num_kv_heads * heads.head_dim

    def context(self, prompt: PackedPrompt, cache: KVCache | None) -> AttentionContext:
        """Attention's view of a prompt, which fills `cache` further where one is given."""
        cos, sin, scale = self.position_tables(prompt.position_ids, cache, prompt.shape[1])
        if cache is None:
            return AttentionContext(cos, sin, prompt.cu_seqlens, query_scale=scale)
        added = prompt.cu_seqlens[1:] - prompt.cu_seqlens[:-1]
        rows = paddle.repeat_interleave(paddle.arange(added.shape[0], dtype="int32"), added)
        first = (cache.lengths - prompt.cu_seqlens[:-1]).index_select(rows)
        slots = first + paddle.arange(rows.shape[0], dtype="int32")
        fresh, lengths = cache.empty, cache.lengths + added
        cache.extend(lengths, prompt.position_ids, prompt.cu_seqlens)
        return AttentionContext(
            cos, sin, prompt.cu_seqlens, cache, rows, slots, lengths, fresh=fresh, query_scale=scale
        )

    def prefill(self, room: int, **inputs) -> tuple[paddle.Tensor, KVCache]:
        """Logits float32 `[B, vocab]` of each row's last token, and the prompt's keys and values, with `room` for more tokens."""
        self.lm_head.parallel.meet()
        self.vision_seconds = 0.0
        batch, length = inputs["input_ids"].shape
        prompt = self.pack(**{name: inputs[name] for name in self.prompt_inputs if inputs.get(name) is not None})
        for row, (start, stop) in enumerate(pairwise(prompt.cu_seqlens.tolist())):
            if start == stop:
                raise PromptError(f"row {row} of the batch has no tokens: leave it out, or give it a prompt.")
        cache = self.allocate_cache(batch, length + room)
        hidden = self.decoder(prompt.embeddings, self.context(prompt, cache))
        last = hidden.index_select(prompt.cu_seqlens[1:] - 1)
        return self.lm_head(last), cache

    def decode(self, token_ids, cache: KVCache):
        """Logits float32 `[B, vocab]` after one more token a row, `token_ids` int64 `[B]`."""
        cache.reserve(cache.longest + 1)
        batch = token_ids.shape[0]
        positions = cache.next_positions.unsqueeze(0).expand([self.position_rows, batch])
        cos, sin, scale = self.position_tables(positions, cache)
        rows = paddle.arange(batch, dtype="int32")
        slots, lengths = cache.lengths, cache.lengths + 1
        context = AttentionContext(
            cos, sin, None, cache, rows, slots, lengths, decoding=True, fresh=False, query_scale=scale
        )
        hidden = self.decoder(self.get_input_embeddings()(token_ids), context)
        cache.lengths, cache.next_positions = lengths, cache.next_positions + 1
        return self.lm_head(hidden)

    def unpadded(self, input_ids, attention_mask):
        """Of a padded batch the mask `[B, S]`, and of its real tokens the places `[T]`, row bounds `[B + 1]` and ids `[T]`.

        Raises:
            PromptError: the ids are no batch or outside the vocabulary, or the mask has another shape.
        """
        check_ids(input_ids)
        mask = paddle.ones_like(input_ids) if attention_mask is None else attention_mask
        if list(mask.shape) != list(input_ids.shape):
            raise PromptError(
                f"attention_mask is {list(mask.shape)} but input_ids is {list(input_ids.shape)}: give them one shape."
            )
        indices, cu_seqlens = ops.get_padding_offset(mask)
        ids = input_ids.flatten().index_select(indices)
        known = self.config.vocab_size
        if ids.shape[0] and not 0 <= int(ids.min()) <= int(ids.max()) < known:
            raise PromptError(
                f"input_ids holds tokens from {int(ids.min())} to {int(ids.max())} but the model knows 0 to {known - 1}: use the "
                f"tokenizer that belongs to the model."
            )
        return mask, indices, cu_seqlens, ids

    def continued_positions(self, cache: KVCache, mask):
        """Positions `[rows, B, S]` and `rope_deltas` of text that goes on after a cache."""
        steps = paddle.cumsum(mask.astype("int64"), axis=-1) - 1
        positions = (cache.next_positions.unsqueeze(-1) + steps).unsqueeze(0).expand([self.position_rows, *mask.shape])
        return positions, cache.next_positions.unsqueeze(-1) + steps[:, -1:] + 1 - mask.shape[1]


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
