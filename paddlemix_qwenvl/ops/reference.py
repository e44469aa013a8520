"""Every operation in plain Paddle: the definition the compiled versions are tested against.

All of it is differentiable by autograd, runs in dynamic mode and in static graphs, and computes in float32 whatever the
dtype of its inputs, because Paddle's CPU build has few bfloat16 kernels. Results come back in the dtype of the input.
Attention lives in `reference_attention.py`, products in `reference_linear.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor

__all__ = [
    "encode_rotary_qk",
    "get_padding_offset",
    "layer_norm",
    "log_probability",
    "mrope_tables",
    "qkv_transpose_split",
    "qkv_write_cache",
    "rebuild_padding",
    "rms_norm",
    "sample",
    "sample_with_settings",
    "swiglu",
    "transpose_remove_padding",
    "write_cache_kv",
]


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == paddle.float32 else x.astype("float32")


def _add(x: Tensor, residual: Tensor | None) -> Tensor:
    return x if residual is None else (_wide(x) + _wide(residual)).astype(x.dtype)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, residual: Tensor | None = None):
    """Root-mean-square norm over the last axis (Zhang & Sennrich 2019), statistics in float32.

    Args:
        x: [..., N].
        weight: [N].
        epsilon: added to the mean square.
        residual: [..., N], added to `x` first.

    Returns:
        The normalised tensor, or with a residual the pair (normalised sum, sum).
    """
    total = _add(x, residual)
    wide = _wide(total)
    inverse = paddle.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    y = (wide * inverse * _wide(weight)).astype(x.dtype)
    return y if residual is None else (y, total)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, residual: Tensor | None = None):
    """Layer norm over the last axis (Ba et al. 2016), statistics in float32; arguments and results as `rms_norm`."""
    total = _add(x, residual)
    y = F.layer_norm(_wide(total), total.shape[-1], _wide(weight), _wide(bias), epsilon).astype(x.dtype)
    return y if residual is None else (y, total)


def swiglu(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up` (Shazeer 2020) of the packed product [..., 2 I] whose first half is the gate -> [..., I]."""
    gate, up = _wide(gate_up).chunk(2, axis=-1)
    return (F.silu(gate) * up).astype(gate_up.dtype)


def mrope_tables(
    position_ids: Tensor, inv_freq: Tensor, mrope_section: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, plain or multimodal (Qwen2-VL, section 2.1).

    Args:
        position_ids: [T], or [3, T] with rows for time, height and width.
        inv_freq: [D/2] in radians a position.
        mrope_section: how many of the D/2 frequencies each row of `position_ids` turns, in order; sums to D/2.

    Returns:
        cos, sin: [T, D/2] float32.
    """
    positions, inv_freq = position_ids.astype("float32"), _wide(inv_freq)
    if positions.ndim == 1:
        angles = positions.unsqueeze(-1) * inv_freq
    else:
        sections = inv_freq.split(list(mrope_section))
        angles = paddle.concat([positions[i].unsqueeze(-1) * section for i, section in enumerate(sections)], axis=-1)
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = _wide(x).chunk(2, axis=-1)
    return paddle.concat([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def encode_rotary_qk(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate queries [T, H, D] and keys [T, Hkv, D] by tables [T, D/2] (RoFormer; halves paired as in Qwen2)."""
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return _rotate(q, cos, sin), _rotate(k, cos, sin)


def qkv_transpose_split(
    qkv: Tensor, cos: Tensor, sin: Tensor, num_heads: int, num_kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Split packed [T, (H + 2 Hkv) D], ordered q heads, k heads, v heads, and rotate q and k.

    Returns:
        q [T, H, D], k [T, Hkv, D], v [T, Hkv, D].
    """
    head_dim = qkv.shape[-1] // (num_heads + 2 * num_kv_heads)
    heads = qkv.reshape([-1, num_heads + 2 * num_kv_heads, head_dim])
    q, k, v = heads.split([num_heads, num_kv_heads, num_kv_heads], axis=1)
    return *encode_rotary_qk(q, k, cos, sin), v


def write_cache_kv(
    k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, rows: Tensor, slots: Tensor
) -> tuple[Tensor, Tensor]:
    """Store token t of `k` and `v` [T, Hkv, D] at `cache[rows[t], :, slots[t]]`; caches are [B, Hkv, S, D].

    The caches are written in place and returned.
    """
    return _write(k_cache, k, rows, slots), _write(v_cache, v, rows, slots)


def _write(cache: Tensor, values: Tensor, rows: Tensor, slots: Tensor) -> Tensor:
    heads = paddle.arange(cache.shape[1], dtype=rows.dtype)
    index = (rows.unsqueeze(-1), heads.unsqueeze(0), slots.unsqueeze(-1))
    # In a static graph too. There Paddle's own `index_put` leaves out the copy of `cache` from a graph's second run on.
    return paddle._C_ops.index_put_(cache, index, values.astype(cache.dtype), False)


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
    """`qkv_transpose_split` and `write_cache_kv` in one pass -> rotated q [T, H, D] and the two caches."""
    q, k, v = qkv_transpose_split(qkv, cos, sin, num_heads, k_cache.shape[1])
    return q, *write_cache_kv(k, v, k_cache, v_cache, rows, slots)


def get_padding_offset(attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where the real tokens of a padded batch are.

    Args:
        attention_mask: [B, S], nonzero at real tokens.

    Returns:
        indices: [T] int64 flat positions of the real tokens; cu_seqlens: [B + 1] int32 running totals from 0.
    """
    mask = attention_mask.astype("bool")
    lengths = mask.astype("int32").sum(-1, dtype="int32")
    cu_seqlens = F.pad(paddle.cumsum(lengths, dtype="int32"), [1, 0])
    return paddle.nonzero(mask.flatten()).flatten(), cu_seqlens


def transpose_remove_padding(x: Tensor, indices: Tensor) -> Tensor:
    """Packed tokens [T, ...] of a padded batch [B, S, ...]; `indices` from `get_padding_offset`."""
    return paddle.gather(x.flatten(0, 1), indices)


def rebuild_padding(x: Tensor, indices: Tensor, batch: int, length: int) -> Tensor:
    """The inverse of `transpose_remove_padding`: [T, ...] -> [batch, length, ...] with zeros where there is padding."""
    flat = paddle.zeros([batch * length, *x.shape[1:]], dtype=x.dtype)
    return paddle.index_put(flat, (indices,), x).reshape([batch, length, *x.shape[1:]])


def sample(
    logits: Tensor,
    seen: Tensor | None,
    temperature: float,
    top_k: int,
    top_p: float,
    repetition_penalty: float,
    uniform: Tensor,
) -> Tensor:
    """Draw one token a row, with the logits processors of transformers in their order: penalty, temperature, k, p.

    The draw inverts the distribution function over the tokens kept, in vocabulary order, so equal uniforms give equal
    tokens. Temperature 0 and top_k 1 take the most likely token.

    Args:
        logits: [B, V].
        seen: [B, V] bool or counts, nonzero at tokens to penalise; None if there are none.
        temperature: divides the logits.
        top_k: keep this many; 0 keeps all.
        top_p: keep the fewest tokens whose probabilities reach this.
        repetition_penalty: positive logits of seen tokens are divided by it, negative ones multiplied.
        uniform: [B] in [0, 1).

    Returns:
        [B] int64.
    """
    logits = _wide(logits)
    if seen is not None and repetition_penalty != 1.0:
        penalised = paddle.where(logits > 0, logits / repetition_penalty, logits * repetition_penalty)
        logits = paddle.where(seen.astype("bool"), penalised, logits)
    if temperature == 0 or top_k == 1:
        return logits.argmax(-1)
    logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k)[0][:, -1:]
        logits = paddle.where(logits < least, paddle.full_like(logits, -float("inf")), logits)
    weights = _weights(logits)
    if top_p < 1.0:
        ranked = weights.sort(descending=True).astype("float64")
        kept = ranked.cumsum(-1) - ranked < top_p * ranked.sum(-1, keepdim=True)
        least = paddle.where(kept, ranked, paddle.ones_like(ranked)).min(-1, keepdim=True).astype("float32")
        weights = paddle.where(weights < least, paddle.zeros_like(weights), weights)
    return _draw(weights, uniform)


def sample_with_settings(logits: Tensor, seen: Tensor, settings: Tensor, uniform: Tensor) -> Tensor:
    """`sample` for static graphs: temperature, top_k, top_p and repetition penalty are a tensor, float32 [4]."""
    temperature, top_k, top_p, penalty = settings.split(4)
    logits = _wide(logits)
    logits = paddle.where(seen, paddle.where(logits > 0, logits / penalty, logits * penalty), logits)

    def drawn():
        weights = _weights(logits / temperature)
        ranked = weights.sort(descending=True).astype("float64")
        last = paddle.where(top_k > 0, top_k, paddle.full_like(top_k, logits.shape[-1])).astype("int64") - 1
        least = ranked.index_select(last.clip(max=logits.shape[-1] - 1), axis=1)
        ranked = paddle.where(ranked < least, paddle.zeros_like(ranked), ranked)
        kept = ranked.cumsum(-1) - ranked < top_p.astype("float64") * ranked.sum(-1, keepdim=True)
        least = paddle.where(kept, ranked, paddle.ones_like(ranked)).min(-1, keepdim=True)
        return _draw(paddle.where(weights < least.astype("float32"), paddle.zeros_like(weights), weights), uniform)

    greedy = paddle.logical_or(temperature == 0, top_k == 1)
    return paddle.static.nn.cond(greedy, lambda: logits.argmax(-1), drawn)


def log_probability(logits: Tensor, token_ids: Tensor) -> Tensor:
    """Logarithms of the tokens' probabilities under softmax(logits), float32 [B]: logits [B, V], token_ids int64 [B]."""
    logits = _wide(logits)
    chosen = paddle.take_along_axis(logits, token_ids.unsqueeze(-1), axis=-1)
    return (chosen - paddle.logsumexp(logits, axis=-1, keepdim=True)).squeeze(-1)


def _weights(logits: Tensor) -> Tensor:
    """Probabilities relative to the likeliest token's."""
    below = logits - logits.max(-1, keepdim=True)
    return below.exp() * (below > -80).astype("float32")  # Paddle's exp(-inf) and softmax are not quite 0


def _draw(weights: Tensor, uniform: Tensor) -> Tensor:
    cumulative = weights.astype("float64").cumsum(-1)
    target = uniform.astype("float64").unsqueeze(-1) * cumulative[:, -1:]
    return (cumulative <= target).astype("int64").sum(-1)
