"""Attention of packed sequences, float32 inside, never holding the scores of a long sequence whole (dynamic mode)."""

from __future__ import annotations

from collections import defaultdict

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from .rotary import qkv_transpose_split

_SCORES_AT_ONCE = 1 << 23  # elements of one score matrix: 32 MB


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Attention of packed sequences: segment i of the queries sees segment i of the keys alone.

    Args:
        q: [T, H, D].
        k, v: [Tk, Hkv, D]; H is a multiple of Hkv and head h reads kv head h // (H / Hkv).
        cu_seqlens_q, cu_seqlens_k: [n + 1] int32 running totals that start at 0 and end at T and Tk.
        causal: aligned to the bottom right, as in FlashAttention 2.1: the last query of a segment sees its last key.
        scale: of the scores; D ** -0.5 if None.

    Returns:
        [T, H, D] in the dtype of `q`; zeros for queries that see no key.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if paddle.in_dynamic_mode():
        out = _grouped_attention(q, k, v, cu_seqlens_q.tolist(), cu_seqlens_k.tolist(), causal, scale)
    else:
        out = _padded_attention(q, k, v, cu_seqlens_q, cu_seqlens_k, causal, scale)
    return out.astype(q.dtype)


def qkv_attention(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    cu_seqlens: Tensor,
    num_heads: int,
    num_kv_heads: int,
    causal: bool = False,
    narrow: bool = False,
) -> Tensor:
    """`qkv_transpose_split` and `varlen_attention` in one: queries and keys turn where they are read.

    Args:
        qkv: [T, (H + 2 Hkv) D], heads of queries, keys and values in this order.
        cos, sin: [T, D/2].
        cu_seqlens: [B + 1] int32, where each segment begins.
        narrow: the model's numbers are bfloat16, to which a CPU may then round the factors of both products.

    Returns:
        [T, H, D] in the dtype of `qkv`.
    """
    q, k, v = qkv_transpose_split(qkv, cos, sin, num_heads, num_kv_heads)
    return varlen_attention(q, k, v, cu_seqlens, cu_seqlens, causal)


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float, allowed: Tensor | None) -> Tensor:
    """Softmax attention of q [N, Lq, H, D] over k, v [N, Lk, Hkv, D]; rows with nothing allowed give zeros.

    `allowed` is boolean and broadcasts to [N, 1, 1, Lq, Lk].
    """
    batch, length, heads, head_dim = q.shape
    kv_heads = k.shape[2]
    q = (q.astype("float32") * scale).transpose([0, 2, 1, 3])
    q = q.reshape([batch, kv_heads, -1, head_dim])  # [N, Hkv, G Lq, D]: all heads of a group share one product
    k, v = (x.astype("float32").transpose([0, 2, 1, 3]) for x in (k, v))
    scores = paddle.matmul(q, k, transpose_y=True)
    if allowed is None:
        weights = F.softmax(scores)
    else:
        shape = [batch, kv_heads, heads // kv_heads, length, -1]
        bias = paddle.where(allowed, paddle.zeros([1]), paddle.full([1], -1e30))
        weights = F.softmax(scores.reshape(shape) + bias) * allowed.astype("float32")
        weights = weights.reshape([batch, kv_heads, (heads // kv_heads) * length, -1])
    out = paddle.matmul(weights, v).reshape([batch, heads, length, head_dim])
    return out.transpose([0, 2, 1, 3])


def _causal(queries: Tensor, query_length, key_length, keys: Tensor) -> Tensor:
    """Bottom-right aligned: the last query sees the last key."""
    return keys <= queries + (key_length - query_length)


def _attend_in_chunks(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> Tensor:
    segments, length, heads, _ = q.shape
    key_length = k.shape[1]
    step = max(1, min(length, _SCORES_AT_ONCE // max(1, heads * key_length)))
    together = max(1, _SCORES_AT_ONCE // max(1, heads * key_length * step))
    rows = []
    for first in range(0, segments, together):
        one, k_one, v_one = (x[first : first + together] for x in (q, k, v))
        chunks = []
        for start in range(0, length, step):
            chunk, end = one[:, start : start + step], key_length
            allowed = None
            if causal:
                end = max(1, min(key_length, start + step + key_length - length))
                queries = paddle.arange(start, start + chunk.shape[1]).unsqueeze(-1)
                allowed = _causal(queries, length, key_length, paddle.arange(end))
            chunks.append(_attend(chunk, k_one[:, :end], v_one[:, :end], scale, allowed))
        rows.append(chunks[0] if len(chunks) == 1 else paddle.concat(chunks, axis=1))
    return rows[0] if len(rows) == 1 else paddle.concat(rows)


def _grouped_attention(q: Tensor, k: Tensor, v: Tensor, cu_q: list, cu_k: list, causal: bool, scale: float) -> Tensor:
    """Segments of equal lengths share one batched product; their rows are put back in order at the end."""
    groups = defaultdict(list)
    for i in range(len(cu_q) - 1):
        groups[cu_q[i + 1] - cu_q[i], cu_k[i + 1] - cu_k[i]].append((cu_q[i], cu_k[i]))
    groups.pop((0, 0), None)
    if len(groups) == 1:  # already in order: no gathers
        ((query_length, key_length),) = groups
        if query_length and key_length:
            split = [-1, query_length, *q.shape[1:]], [-1, key_length, *k.shape[1:]]
            out = _attend_in_chunks(q.reshape(split[0]), k.reshape(split[1]), v.reshape(split[1]), scale, causal)
            return out.reshape(q.shape)
    rows, outputs = [], []
    for (query_length, key_length), starts in groups.items():
        if not query_length:
            continue
        begin = paddle.to_tensor(starts, dtype="int64")
        query_rows = begin[:, :1] + paddle.arange(query_length)
        rows.append(query_rows.flatten())
        if not key_length:
            outputs.append(paddle.zeros([query_rows.size, *q.shape[1:]], dtype="float32"))
            continue
        key_rows = begin[:, 1:] + paddle.arange(key_length)
        out = _attend_in_chunks(q[query_rows], k[key_rows], v[key_rows], scale, causal)
        outputs.append(out.flatten(0, 1))
    if not rows:
        return paddle.zeros(q.shape, dtype="float32")
    return paddle.gather(paddle.concat(outputs), paddle.argsort(paddle.concat(rows)))


def _padded_attention(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, causal: bool, scale: float):
    """The form for static graphs: gather every segment to the longest one's length and mask the rest."""
    cu_q, cu_k = cu_q.astype("int64"), cu_k.astype("int64")
    length_q, length_k = cu_q[1:] - cu_q[:-1], cu_k[1:] - cu_k[:-1]
    queries, keys = paddle.arange(length_q.max()), paddle.arange(length_k.max())
    rows_q = (cu_q[:-1].unsqueeze(-1) + queries).clip(max=q.shape[0] - 1)
    rows_k = (cu_k[:-1].unsqueeze(-1) + keys).clip(max=k.shape[0] - 1)
    allowed = keys < length_k.reshape([-1, 1, 1, 1, 1])
    if causal:
        shift = [-1, 1, 1, 1, 1]
        visible = _causal(queries.unsqueeze(-1), length_q.reshape(shift), length_k.reshape(shift), keys)
        allowed = paddle.logical_and(allowed, visible)
    out = _attend(q[rows_q], k[rows_k], v[rows_k], scale, allowed)
    token = paddle.arange(q.shape[0], dtype="int64")
    segment = paddle.searchsorted(cu_q[1:], token, right=True)
    place = token - paddle.gather(cu_q, segment)
    return paddle.gather(out.flatten(0, 1), segment * queries.shape[0] + place)
