"""The operations' definitions in float64, loop by loop, in NumPy alone."""

import numpy as np


def rms_norm(x, weight, epsilon):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * weight


def layer_norm(x, weight, bias, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * weight + bias


def swiglu(gate_up):
    gate, up = np.split(gate_up, 2, axis=-1)
    return gate / (1 + np.exp(-gate)) * up


def rotate(x, cos, sin):
    """x [T, heads, D], tables [T, D/2]: number i turns with number i + D/2."""
    half, y = x.shape[-1] // 2, np.empty_like(x)
    for i in range(half):
        a, b, c, s = x[..., i], x[..., half + i], cos[:, i, None], sin[:, i, None]
        y[..., i], y[..., half + i] = a * c - b * s, b * c + a * s
    return y


def softmax_attention(q, k, v, visible, scale):
    """One head: q [Lq, D], k and v [Lk, D], visible [Lq, Lk]; rows that see nothing give zeros."""
    out = np.zeros((q.shape[0], v.shape[-1]))
    for i in range(q.shape[0]):
        keys = np.flatnonzero(visible[i])
        if keys.size:
            scores = k[keys] @ q[i] * scale
            weights = np.exp(scores - scores.max())
            out[i] = weights / weights.sum() @ v[keys]
    return out


def attention(q, k, v, query_lengths, key_lengths, causal, scale):
    """Packed q [T, H, D] and k, v [Tk, Hkv, D], a segment at a time; causal is aligned to the bottom right."""
    out, group = np.zeros_like(q), q.shape[1] // k.shape[1]
    ends_q, ends_k = np.cumsum(query_lengths), np.cumsum(key_lengths)
    for end_q, end_k, rows, keys in zip(ends_q, ends_k, query_lengths, key_lengths, strict=True):
        visible = np.ones((rows, keys), bool)
        if causal:
            visible = np.arange(keys) <= np.arange(rows)[:, None] + keys - rows
        here_q, here_k = slice(end_q - rows, end_q), slice(end_k - keys, end_k)
        for head in range(q.shape[1]):
            kv = head // group
            out[here_q, head] = softmax_attention(q[here_q, head], k[here_k, kv], v[here_k, kv], visible, scale)
    return out


SAMPLING = [  # temperature, top_k, top_p
    (1, 0, 1),
    (0.7, 50, 0.9),
    (1.5, 0, 0.8),
    (1, 5, 1),
    (0.01, 0, 1),
    (1, 0, 1e-6),
    (0, 0, 1),
    (1, 1, 1),
    (1, 9999, 0.5),  # of fewer tokens
]


def sample_row(logits, seen, temperature, top_k, top_p, penalty, uniform) -> int:
    """One row: transformers' processors in their order, then the inverse distribution function by vocabulary order."""
    logits = logits.astype(np.float64)
    if seen is not None:
        logits = np.where(seen, np.where(logits > 0, logits / penalty, logits * penalty), logits)
    if temperature == 0 or top_k == 1:
        return int(logits.argmax())
    probabilities = np.exp((logits - logits.max()) / temperature)
    order = np.argsort(-probabilities, kind="stable")
    kept = order[:top_k] if top_k else order
    shares = probabilities[kept] / probabilities[kept].sum()
    kept = kept[np.cumsum(shares) - shares < top_p]
    weights = np.zeros_like(probabilities)
    weights[kept] = probabilities[kept]
    return int(np.searchsorted(np.cumsum(weights), uniform * weights.sum(), side="right"))
