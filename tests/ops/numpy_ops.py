"""The operations' definitions in float64, loop by loop, and tensors to try them on."""

import numpy as np
import paddle

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 3e-3}


def tensor(values, dtype="float32"):
    return paddle.to_tensor(np.asarray(values, np.float32)).astype(dtype)


def int32(values):
    return paddle.to_tensor(np.asarray(values, np.int32))


def float64(x) -> np.ndarray:
    return x.astype("float32").numpy().astype(np.float64)


def close(found, wanted, dtype="float32"):
    """`found` has the dtype and shape wanted, and its numbers are as near as the dtype allows."""
    assert found.dtype == getattr(paddle, dtype)
    assert list(found.shape) == list(wanted.shape)
    np.testing.assert_allclose(float64(found), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def running_totals(lengths):
    return int32(np.concatenate([[0], np.cumsum(lengths)]))


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
