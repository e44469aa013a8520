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


def settings(temperature=1, top_k=0, top_p=1, min_p=0, repetition_penalty=1, presence_penalty=0, frequency_penalty=0):
    """A row of `sample`'s settings."""
    penalties = repetition_penalty, presence_penalty, frequency_penalty
    return np.array([temperature, top_k, top_p, min_p, *penalties], np.float32)


SAMPLING = {
    "as they are": settings(),
    "temperature": settings(0.7),
    "cold": settings(0.01),
    "greedy": settings(0),
    "greedy with penalties": settings(0, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.3),
    "top-k": settings(top_k=5),
    "top-k 1": settings(top_k=1, repetition_penalty=0.8),
    "top-k of more than there are": settings(top_k=999999, top_p=0.5),
    "top-p": settings(1.5, top_p=0.8),
    "small top-p": settings(top_p=1e-6),
    "min-p": settings(2, min_p=0.1),
    "min-p 1": settings(min_p=1),
    "repetition": settings(repetition_penalty=1.3),
    "presence": settings(presence_penalty=1.5),
    "frequency": settings(frequency_penalty=0.7),
    "praise": settings(repetition_penalty=0.9, presence_penalty=-0.5, frequency_penalty=-0.2),
    "all": settings(0.7, 50, 0.9, 0.02, 1.3, 0.4, 0.3),
}


def draw_marks(draws, vocabulary, size):
    """Marks of a row: different tokens, times in the answer (from -1), biases, of which every fourth is not 0."""
    tokens, counts = draws.choice(vocabulary, size, replace=False), draws.integers(-1, 4, size)
    bias = np.where(np.arange(size) % 4, 0, draws.normal(0, 3, size)).astype(np.float32)
    return list(zip(tokens.tolist(), counts.tolist(), bias.tolist(), strict=True))


def token_marks(rows):
    """The arrays of `TokenMarks` for lists of (token, count, bias)."""
    marks = [mark for row in rows for mark in row]
    tokens, counts, bias = zip(*marks, strict=True) if marks else ((), (), ())
    offsets = np.cumsum([0, *map(len, rows)])
    return offsets.astype(np.int32), np.int32(tokens), np.int32(counts), np.float32(bias)


def bit_masks(allowed):
    """Booleans [B, V] as `sample` takes them; the bits after the last token are set."""
    padded = np.pad(allowed, ((0, 0), (0, -allowed.shape[1] % 32)), constant_values=True)
    return np.packbits(padded, axis=1, bitorder="little").view(np.int32)


def sampling_weights(logits, how, marks=(), allowed=None):
    """What a row's tokens are drawn with, all but one 0 for the likeliest: one step after another, in float64."""
    temperature, top_k, top_p, min_p, repetition, presence, frequency = map(float, how)
    logits = logits.astype(np.float64)
    for token, count, bias in marks:
        logits[token] += bias
        if count >= 0:
            logits[token] *= repetition if logits[token] < 0 else 1 / repetition
        if count > 0:
            logits[token] -= presence + frequency * count
    if allowed is not None and allowed.any():
        logits = np.where(allowed, logits, -np.inf)
    if temperature == 0 or top_k == 1:
        return (np.arange(logits.size) == logits.argmax()).astype(np.float64)
    probabilities = np.exp((logits - logits.max()) / temperature)
    ranked = np.sort(probabilities)[::-1]
    if top_k:
        ranked = ranked[ranked >= ranked[min(int(top_k), ranked.size) - 1]]
    before = np.cumsum(ranked) - ranked
    least = ranked[before < top_p * ranked.sum()].min(initial=1)
    return np.where(probabilities < max(least, min_p), 0, probabilities)


def log_probabilities(logits, tokens):
    """Of a token of each row; not a number where no logit is above minus infinity."""
    return logits[np.arange(len(logits)), tokens] - np.logaddexp.reduce(logits, axis=-1)


def sample_row(logits, how, uniform, marks=(), allowed=None) -> int:
    """The inverse distribution function by vocabulary order."""
    weights = sampling_weights(logits, how, marks, allowed)
    return int(np.searchsorted(np.cumsum(weights), uniform * weights.sum(), side="right"))
