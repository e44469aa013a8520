"""Several new tokens a row against the KV cache: prefill and decode as one operation, for static graphs and continued prompts."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from .reference_attention import _attend, varlen_attention

__all__ = ["cached_attention"]


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
