"""The KV cache: writing new tokens to it, and attention of new tokens against it.

Caches are [B, Hkv, S, D]: `rows` and `slots` say where a token lies, its position in B and in S.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from .attention import _attend, varlen_attention
from .rotary import qkv_transpose_split


def write_cache_kv(
    k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, rows: Tensor, slots: Tensor
) -> tuple[Tensor, Tensor]:
    """Store token t of `k` and `v` at `cache[rows[t], :, slots[t]]`.

    Args:
        k, v: [T, Hkv, D].
        k_cache, v_cache: [B, Hkv, S, D], of any float dtype; written in place.
        rows, slots: [T] int32.

    Returns:
        The two caches.
    """
    return _write(k_cache, k, rows, slots), _write(v_cache, v, rows, slots)


def qkv_write_cache(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    rows: Tensor,
    slots: Tensor,
    num_heads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """`qkv_transpose_split` and `write_cache_kv` in one pass.

    Args:
        qkv: [T, (H + 2 Hkv) D], heads of queries, keys and values in this order.
        cos, sin: [T, D/2].
        k_cache, v_cache: [B, Hkv, S, D], of any float dtype; written in place.
        rows, slots: [T] int32.

    Returns:
        Rotated q [T, H, D] and the two caches.
    """
    q, k, v = qkv_transpose_split(qkv, cos, sin, num_heads, k_cache.shape[1])
    return q, *write_cache_kv(k, v, k_cache, v_cache, rows, slots)


def decode_attention(q: Tensor, k_cache: Tensor, v_cache: Tensor, lengths: Tensor) -> Tensor:
    """One query a row against the KV cache.

    Args:
        q: [B, H, D].
        k_cache, v_cache: [B, Hkv, S, D]; may be of a narrower dtype than `q`.
        lengths: [B] int32; row b sees slots 0 .. lengths[b] - 1. A row of length 0 gives zeros.

    Returns:
        [B, H, D] in the dtype of `q`.
    """
    allowed = paddle.arange(k_cache.shape[2]) < lengths.astype("int64").reshape([-1, 1, 1, 1, 1])
    k, v = (cache.transpose([0, 2, 1, 3]) for cache in (k_cache, v_cache))
    out = _attend(q.unsqueeze(1), k, v, q.shape[-1] ** -0.5, allowed)
    return out.squeeze(1).astype(q.dtype)


def cached_attention(q: Tensor, k_cache: Tensor, v_cache: Tensor, cu_seqlens: Tensor, lengths: Tensor) -> Tensor:
    """Causal attention of packed new tokens against caches that already hold their keys and values.

    Args:
        q: [T, H, D].
        k_cache, v_cache: [B, Hkv, S, D]; may be of a narrower dtype than `q`.
        cu_seqlens: [B + 1] int32, where each row's new tokens begin.
        lengths: [B] int32, slots filled in each row; its new tokens are the last of them.

    Returns:
        [T, H, D] in the dtype of `q`.
    """
    if paddle.in_dynamic_mode():
        k, v, cu_seqlens_k = _packed(k_cache, v_cache, lengths)
        return varlen_attention(q, k, v, cu_seqlens, cu_seqlens_k, causal=True)
    return _padded(q, k_cache, v_cache, cu_seqlens, lengths)


def _write(cache: Tensor, values: Tensor, rows: Tensor, slots: Tensor) -> Tensor:
    heads = paddle.arange(cache.shape[1], dtype=rows.dtype)
    index = (rows.unsqueeze(-1), heads.unsqueeze(0), slots.unsqueeze(-1))
    # In a static graph too. There Paddle's own `index_put` leaves out the copy of `cache` from a graph's second run on.
    return paddle._C_ops.index_put_(cache, index, values.astype(cache.dtype), False)


def _packed(k_cache: Tensor, v_cache: Tensor, lengths: Tensor):
    """All filled slots [sum(lengths), Hkv, D] of both caches, and where each row begins."""
    filled = paddle.arange(k_cache.shape[2], dtype=lengths.dtype).unsqueeze(0) < lengths.unsqueeze(1)  # [B, S]
    index = paddle.nonzero(filled.flatten()).flatten()
    k, v = (cache.transpose([0, 2, 1, 3]).flatten(0, 1).gather(index).astype("float32") for cache in (k_cache, v_cache))
    return k, v, F.pad(paddle.cumsum(lengths, dtype="int32"), [1, 0])


def _padded(q: Tensor, k_cache: Tensor, v_cache: Tensor, cu_seqlens: Tensor, lengths: Tensor) -> Tensor:
    """The form for static graphs: every row's queries padded to the longest row's, slots that are not theirs masked."""
    cu_seqlens, lengths = cu_seqlens.astype("int64"), lengths.astype("int64")
    added = cu_seqlens[1:] - cu_seqlens[:-1]
    queries, slots = paddle.arange(added.max()), paddle.arange(lengths.max())
    rows = (cu_seqlens[:-1].unsqueeze(-1) + queries).clip(max=q.shape[0] - 1)  # [B, L]
    last = (lengths - added).unsqueeze(-1) + queries  # [B, L], the newest slot each query sees
    allowed = slots <= last.unsqueeze(-1)  # [B, L, S]
    k, v = (cache[:, :, : slots.shape[0]].transpose([0, 2, 1, 3]) for cache in (k_cache, v_cache))
    out = _attend(q[rows], k, v, q.shape[-1] ** -0.5, allowed.unsqueeze([1, 2]))
    token = paddle.arange(q.shape[0], dtype="int64")
    row = paddle.searchsorted(cu_seqlens[1:], token, right=True)
    place = token - paddle.gather(cu_seqlens, row)
    return paddle.gather(out.flatten(0, 1), row * queries.shape[0] + place).astype(q.dtype)
