"""The paged KV cache: writing new tokens to it, and attention of new tokens against it (Kwon et al. 2023, arXiv:2309.06180).

Caches are [N, Hkv, block, D], N blocks of `block` slots. A row's tokens lie in the blocks that its block table names, in order;
slot `s` of the cache is offset `s % block` of block `s // block`.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from .attention import _attend, varlen_attention
from .rotary import qkv_transpose_split


def write_cache_kv(
    k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slot_mapping: Tensor
) -> tuple[Tensor, Tensor]:
    """Store token t of `k` and `v` in slot `slot_mapping[t]`.

    Args:
        k, v: [T, Hkv, D].
        k_cache, v_cache: [N, Hkv, block, D], of any float dtype; written in place.
        slot_mapping: [T] int32.

    Returns:
        The two caches.
    """
    return _write(k_cache, k, slot_mapping), _write(v_cache, v, slot_mapping)


def qkv_write_cache(
    qkv: Tensor, cos: Tensor, sin: Tensor, k_cache: Tensor, v_cache: Tensor, slot_mapping: Tensor, num_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`qkv_transpose_split` and `write_cache_kv` in one pass.

    Args:
        qkv: [T, (H + 2 Hkv) D], heads of queries, keys and values in this order.
        cos, sin: [T, D/2].
        k_cache, v_cache: [N, Hkv, block, D], of any float dtype; written in place.
        slot_mapping: [T] int32.

    Returns:
        Rotated q [T, H, D] and the two caches.
    """
    q, k, v = qkv_transpose_split(qkv, cos, sin, num_heads, k_cache.shape[1])
    return q, *write_cache_kv(k, v, k_cache, v_cache, slot_mapping)


def decode_attention(q: Tensor, k_cache: Tensor, v_cache: Tensor, block_tables: Tensor, lengths: Tensor) -> Tensor:
    """One query a row against the KV cache.

    Args:
        q: [B, H, D].
        k_cache, v_cache: [N, Hkv, block, D]; may be of a narrower dtype than `q`.
        block_tables: [B, blocks] int32, each row's blocks in order; what follows its last one may be any block.
        lengths: [B] int32; row b sees its first lengths[b] tokens. A row of length 0 gives zeros.

    Returns:
        [B, H, D] in the dtype of `q`.
    """
    k, v, filled = _rows(k_cache, v_cache, block_tables, lengths)
    out = _attend(q.unsqueeze(1), k, v, q.shape[-1] ** -0.5, filled.unsqueeze([1, 2, 3]))
    return out.squeeze(1).astype(q.dtype)


def qkv_decode_attention(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slot_mapping: Tensor,
    block_tables: Tensor,
    lengths: Tensor,
    num_heads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """`qkv_write_cache` and `decode_attention` in one pass, of one new token a row.

    Args:
        qkv: [B, (H + 2 Hkv) D], heads of queries, keys and values in this order.
        cos, sin: [B, D/2].
        k_cache, v_cache: [N, Hkv, block, D], of any float dtype; written in place.
        slot_mapping: [B] int32, where the block tables have each row's last token; no other row sees it.
        block_tables: [B, blocks] int32, as in `decode_attention`.
        lengths: [B] int32, tokens of each row, the new one among them.
        num_heads: H.

    Returns:
        [B, H D] in the dtype of `qkv`, and the two caches.
    """
    q, k_cache, v_cache = qkv_write_cache(qkv, cos, sin, k_cache, v_cache, slot_mapping, num_heads)
    return decode_attention(q, k_cache, v_cache, block_tables, lengths).flatten(1), k_cache, v_cache


def cached_attention(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, cu_seqlens: Tensor, block_tables: Tensor, lengths: Tensor
) -> Tensor:
    """Causal attention of packed new tokens against caches that already hold their keys and values.

    Args:
        q: [T, H, D].
        k_cache, v_cache: [N, Hkv, block, D]; may be of a narrower dtype than `q`.
        cu_seqlens: [B + 1] int32, where each row's new tokens begin.
        block_tables: [B, blocks] int32, as in `decode_attention`.
        lengths: [B] int32, tokens of each row in the cache; its new ones are the last of them.

    Returns:
        [T, H, D] in the dtype of `q`.
    """
    k, v, filled = _rows(k_cache, v_cache, block_tables, lengths)
    if paddle.in_dynamic_mode():
        index = paddle.nonzero(filled.flatten()).flatten()
        k, v = (x.flatten(0, 1).gather(index) for x in (k, v))
        cu_seqlens_k = F.pad(paddle.cumsum(lengths, dtype="int32"), [1, 0])
        return varlen_attention(q, k, v, cu_seqlens, cu_seqlens_k, causal=True)
    return _padded(q, k, v, cu_seqlens, lengths)


def _write(cache: Tensor, values: Tensor, slot_mapping: Tensor) -> Tensor:
    block = cache.shape[2]
    heads = paddle.arange(cache.shape[1], dtype=slot_mapping.dtype)
    index = ((slot_mapping // block).unsqueeze(-1), heads.unsqueeze(0), (slot_mapping % block).unsqueeze(-1))
    # In a static graph too. There Paddle's own `index_put` leaves out the copy of `cache` from a graph's second run on.
    return paddle._C_ops.index_put_(cache, index, values.astype(cache.dtype), False)


def _rows(k_cache: Tensor, v_cache: Tensor, block_tables: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each row's keys and values float32 `[B, S, Hkv, D]`, zeros where it has none, and where it has some, bool `[B, S]`."""
    batch, blocks = block_tables.shape
    slots = blocks * k_cache.shape[2]
    filled, index = paddle.arange(slots, dtype=lengths.dtype) < lengths.unsqueeze(1), block_tables.flatten()

    def rows(cache):
        if paddle.in_dynamic_mode():
            own = cache[index]
        else:  # a graph cannot say that; and what it says has no float16 on a CPU
            own = (cache.astype("float32") if cache.dtype == paddle.float16 else cache).index_select(index)
        own = own.transpose([0, 2, 1, 3]).astype("float32")
        own = own.reshape([batch, slots, cache.shape[1], cache.shape[3]])
        return paddle.where(filled.unsqueeze([2, 3]), own, paddle.zeros([1]))  # what was never written may be NaN

    return rows(k_cache), rows(v_cache), filled


def _padded(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, lengths: Tensor) -> Tensor:
    """The form for static graphs: every row's queries padded to the longest row's, slots that are not theirs masked."""
    cu_seqlens, lengths = cu_seqlens.astype("int64"), lengths.astype("int64")
    added = cu_seqlens[1:] - cu_seqlens[:-1]
    queries, slots = paddle.arange(added.max()), paddle.arange(k.shape[1])
    rows = (cu_seqlens[:-1].unsqueeze(-1) + queries).clip(max=q.shape[0] - 1)  # [B, L]
    last = (lengths - added).unsqueeze(-1) + queries  # [B, L], the newest slot each query sees
    allowed = slots <= last.unsqueeze(-1)  # [B, L, S]
    out = _attend(q[rows], k, v, q.shape[-1] ** -0.5, allowed.unsqueeze([1, 2]))
    token = paddle.arange(q.shape[0], dtype="int64")
    row = paddle.searchsorted(cu_seqlens[1:], token, right=True)
    place = token - paddle.gather(cu_seqlens, row)
    return paddle.gather(out.flatten(0, 1), row * queries.shape[0] + place).astype(q.dtype)
