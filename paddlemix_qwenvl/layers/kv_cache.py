"""The key-value cache."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import paddle

from paddlemix_qwenvl.errors import PromptError


@dataclass
class KVCache:
    """Keys and values of all layers, allocated once for the longest the rows may grow.

    Attributes:
        keys: one `[B, kv_heads, capacity, head_dim]` tensor a layer.
        values: the same.
        lengths: int32 `[B]`, slots filled in each row. Rows are packed: padding takes no slot.
        next_positions: int64 `[B]`, rotary position of each row's next token.
        longest: slots filled in the longest row.
        ntk_alpha: what the rotary base was stretched by for the keys stored here (Qwen-VL's dynamic NTK), 1 for nothing.
    """

    keys: list
    values: list
    lengths: paddle.Tensor
    next_positions: paddle.Tensor
    longest: int = 0
    ntk_alpha: float = 1.0

    @classmethod
    def allocate(cls, layers: int, batch: int, kv_heads: int, capacity: int, head_dim: int, dtype: str) -> KVCache:
        """An empty cache of `2 * layers * batch * kv_heads * capacity * head_dim` numbers."""
        shape = [batch, kv_heads, capacity, head_dim]
        return cls(
            keys=[paddle.zeros(shape, dtype) for _ in range(layers)],
            values=[paddle.zeros(shape, dtype) for _ in range(layers)],
            lengths=paddle.zeros([batch], "int32"),
            next_positions=paddle.zeros([batch], "int64"),
        )

    @property
    def capacity(self) -> int:
        """Slots in a row."""
        return self.keys[0].shape[2]

    @property
    def empty(self) -> bool:
        """Nothing has been stored yet."""
        return self.longest == 0

    def extend(self, lengths, position_ids, cu_seqlens) -> None:
        """Count in the tokens of a prompt that attention is about to store.

        Args:
            lengths: int32 `[B]`, slots filled afterwards.
            position_ids: int64 `[3, T]`, their positions.
            cu_seqlens: int32 `[B + 1]`, where each row's tokens begin.

        Raises:
            PromptError: a row has no room for them.
        """
        self.reserve(max(lengths.tolist()))
        largest, bounds = position_ids.max(axis=0), pairwise(cu_seqlens.tolist())
        rows = [
            largest[start:stop].max() + 1 if start < stop else self.next_positions[row]
            for row, (start, stop) in enumerate(bounds)
        ]
        self.lengths, self.next_positions = lengths, paddle.stack(rows)

    def reserve(self, longest: int) -> None:
        """Rows are about to take up to `longest` slots; writing past the last one would be writing anywhere.

        Raises:
            PromptError: there are not as many.
        """
        if longest > self.capacity:
            raise PromptError(
                f"the cache has room for {self.capacity} tokens a row and {longest} are needed: allocate_cache with a larger "
                f"capacity."
            )
        self.longest = longest

    def reorder(self, rows) -> None:
        """Row `i` becomes what row `rows[i]` was (beam search), and rows that are not named go (rows that have ended).

        One tensor after the other, so that memory holds one of them twice.
        """
        for tensors in (self.keys, self.values):
            for layer, tensor in enumerate(tensors):
                tensors[layer] = tensor.index_select(rows, 0)
        self.lengths = self.lengths.index_select(rows, 0)
        self.next_positions = self.next_positions.index_select(rows, 0)
