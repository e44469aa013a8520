"""What `forward` returns for a call that goes on: keys, values and where each row is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import paddle

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.layers.attention import AttentionContext
from paddlemix_qwenvl.layers.kv_cache import KVCache


@dataclass
class PastKeyValues:
    """The cache of a batch, whose rows have a block each of it.

    Attributes:
        cache: of `B` blocks.
        lengths: int32 `[B]`, tokens of each row in the cache. Rows are packed: padding takes no slot.
        next_positions: int64 `[B]`, rotary position of each row's next token.
        ntk_alpha: what the rotary base is stretched by for the keys stored here (Qwen-VL's dynamic NTK); None for nothing.
    """

    cache: KVCache
    lengths: paddle.Tensor
    next_positions: paddle.Tensor
    ntk_alpha: float | None = None

    @classmethod
    def allocate(cls, batch: int, **sizes) -> PastKeyValues:
        """An empty one; `sizes` as in `KVCache.allocate`, a block of which is what a row may grow to."""
        lengths, next_positions = paddle.zeros([batch], "int32"), paddle.zeros([batch], "int64")
        return cls(KVCache.allocate(num_blocks=batch, **sizes), lengths, next_positions)

    @property
    def empty(self) -> bool:
        """Nothing has been stored yet."""
        return not bool((self.lengths > 0).any())

    def extend(self, cos, sin, scale, position_ids, cu_seqlens) -> AttentionContext:
        """Attention's view of a prompt that it is about to store, which is counted in.

        Args:
            cos, sin, scale: as in `AttentionContext`.
            position_ids: int64 `[rows, T]`, the tokens' positions.
            cu_seqlens: int32 `[B + 1]`, where each row's tokens begin.

        Raises:
            PromptError: a row has no room for them; writing past its last slot would be writing anywhere.
        """
        added, room = cu_seqlens[1:] - cu_seqlens[:-1], self.cache.block_size
        lengths = self.lengths + added
        if (longest := max(lengths.tolist())) > room:
            raise PromptError(
                f"the cache has room for {room} tokens a row and {longest} are needed: allocate_cache with a larger capacity."
            )
        row = paddle.repeat_interleave(paddle.arange(added.shape[0], dtype="int32"), added)
        first = (self.lengths - cu_seqlens[:-1]).index_select(row)
        slots = row * room + first + paddle.arange(row.shape[0], dtype="int32")
        largest, bounds = position_ids.max(axis=0), pairwise(cu_seqlens.tolist())
        self.next_positions = paddle.stack(
            [
                largest[start:stop].max() + 1 if start < stop else self.next_positions[row]
                for row, (start, stop) in enumerate(bounds)
            ]
        )
        self.lengths, tables = lengths, paddle.arange(added.shape[0], dtype="int32").unsqueeze(-1)
        return AttentionContext(cos, sin, cu_seqlens, self.cache, slots, tables, lengths, query_scale=scale)
