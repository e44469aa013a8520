"""Causal self-attention over packed rows, with or without a key-value cache."""

from __future__ import annotations

from dataclasses import dataclass

import paddle

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.errors import ParallelError
from paddlemix_qwenvl.layers.kv_cache import KVCache
from paddlemix_qwenvl.parallel import tensor_parallel


@dataclass
class AttentionContext:
    """What every layer's attention needs to know about the tokens of one step.

    The batch is packed: `T` tokens of all rows one after the other, padding left out.

    Attributes:
        cos, sin: float32 `[T, head_dim / 2]` rotary tables.
        cu_seqlens: int32 `[B + 1]`, where each row's tokens begin.
        cache: keys and values so far; None when nothing is to be kept, as in training.
        slot_mapping: int32 `[T]`, the slot of the cache that each token's key and value take.
        block_tables: int32 `[B, blocks]`, the blocks of each row in order.
        lengths: int32 `[B]`, tokens of each row in the cache after this step.
        decoding: every row has exactly one new token.
        query_scale: float32 `[T, 1, 1]` factor of the queries, None for 1 (Qwen-VL's log-n attention).
    """

    cos: paddle.Tensor
    sin: paddle.Tensor
    cu_seqlens: paddle.Tensor
    cache: KVCache | None = None
    slot_mapping: paddle.Tensor | None = None
    block_tables: paddle.Tensor | None = None
    lengths: paddle.Tensor | None = None
    decoding: bool = False
    query_scale: paddle.Tensor | None = None


@dataclass(frozen=True)
class HeadSplit:
    """This rank's heads. Where there are fewer KV heads than ranks, several ranks hold the same one."""

    head_dim: int
    first_head: int
    last_head: int
    first_kv_head: int
    last_kv_head: int

    @classmethod
    def of(cls, num_heads: int, num_kv_heads: int, head_dim: int) -> HeadSplit:
        """The share of this rank of the tensor-parallel group.

        Raises:
            ParallelError: the ranks cannot be given equal numbers of heads.
        """
        parallel = tensor_parallel()
        if num_heads % parallel.degree:
            raise ParallelError(
                f"{num_heads} attention heads cannot be split over {parallel.degree} ranks: use a degree that divides them."
            )
        heads = num_heads // parallel.degree
        first = parallel.rank * heads
        group = num_heads // num_kv_heads
        if heads % group and group % heads:
            raise ParallelError(
                f"{num_heads} heads in groups of {group} cannot be split over {parallel.degree} ranks: "
                f"each rank would share parts of two key-value heads."
            )
        return cls(head_dim, first, first + heads, first // group, (first + heads - 1) // group + 1)

    @property
    def num_heads(self) -> int:
        """Query heads on this rank."""
        return self.last_head - self.first_head

    @property
    def num_kv_heads(self) -> int:
        """Key-value heads on this rank."""
        return self.last_kv_head - self.first_kv_head

    @property
    def query_rows(self) -> tuple[int, int]:
        """First and last-plus-one row of the query projection."""
        return self.first_head * self.head_dim, self.last_head * self.head_dim

    @property
    def kv_rows(self) -> tuple[int, int]:
        """First and last-plus-one row of the key projection, and of the value projection."""
        return self.first_kv_head * self.head_dim, self.last_kv_head * self.head_dim


def causal_attention(qkv, heads: HeadSplit, context: AttentionContext, layer: int):
    """Attention of layer `layer` from the packed projections.

    Args:
        qkv: `[T, (num_heads + 2 * num_kv_heads) * head_dim]`, not yet rotated: queries, keys, values.

    Returns:
        `[T, num_heads * head_dim]`.
    """
    cache = context.cache
    if cache is None:
        q, k, v = ops.qkv_transpose_split(qkv, context.cos, context.sin, heads.num_heads, heads.num_kv_heads)
        q = _scaled(q, context)
        return ops.varlen_attention(q, k, v, context.cu_seqlens, context.cu_seqlens, causal=True).flatten(1)
    tokens = qkv, context.cos, context.sin, cache.keys[layer], cache.values[layer], context.slot_mapping
    rows = context.block_tables, context.lengths
    if context.decoding and context.query_scale is None:
        out, cache.keys[layer], cache.values[layer] = ops.qkv_decode_attention(*tokens, *rows, heads.num_heads)
        return out
    q, keys, values = ops.qkv_write_cache(*tokens, heads.num_heads)
    cache.keys[layer], cache.values[layer], q = keys, values, _scaled(q, context)
    if context.decoding:
        return ops.decode_attention(q, keys, values, *rows).flatten(1)
    return ops.cached_attention(q, keys, values, context.cu_seqlens, *rows).flatten(1)


def _scaled(q, context: AttentionContext):
    return q if context.query_scale is None else q * context.query_scale.astype(q.dtype)
