"""Tokens drawn from logits, and their probabilities."""

from __future__ import annotations

import paddle
from paddle import Tensor

from ..cast import to_float32
from ..marks import TokenMarks

_LARGEST = 3e38  # of logits that have to be numbers, and of what they are multiplied by


def sample(
    logits: Tensor,
    settings: Tensor,
    uniform: Tensor,
    marks: TokenMarks | None = None,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw one token a row, each row by settings of its own.

    In this order: bias, repetition penalty (Keskar et al. 2019), presence and frequency penalties, allowed tokens, temperature,
    top-k, top-p, min-p; as the processors of transformers, and presence and frequency, which it has not, as vLLM. Equal logits
    are kept or cut together. The draw inverts the distribution function over the tokens kept, in vocabulary order, so equal
    uniforms give equal tokens. Temperature 0 and top-k 1 take the most likely token, of equals the first.

    Args:
        logits: [B, V].
        settings: float32 [B, 7], a row's `SETTINGS` in their order:
            temperature: divides the logits.
            top_k: keep this many; 0 keeps all.
            top_p: keep the fewest tokens whose probabilities reach this.
            min_p: keep what is at least this share as probable as the most likely.
            repetition_penalty: positive logits of tokens seen before are divided by it, negative ones multiplied.
            presence_penalty: taken off logits of tokens in the answer.
            frequency_penalty: taken off them once for each time they are there.
        uniform: float32 [B] in [0, 1).
        marks: the tokens that penalties and biases fall on; None for none.
        allowed: int32 [B, ceil(V / 32)], bit `v % 32` of word `v // 32` says whether token v may be drawn; None for all. A row
            that allows none is drawn as if it allowed all. One of those allowed is drawn even if all have logits of minus infinity.

    Returns:
        tokens [B] int64, and the logarithms of their probabilities under softmax(logits), float32 [B]: before bias,
        penalties, masks and temperature.
    """
    logits = to_float32(logits)
    tokens = _drawn(logits, settings, uniform, marks, allowed)
    chosen = paddle.take_along_axis(logits, tokens.unsqueeze(-1), axis=-1)
    return tokens, (chosen - paddle.logsumexp(logits, axis=-1, keepdim=True)).squeeze(-1)


def _drawn(logits: Tensor, settings: Tensor, uniform: Tensor, marks, allowed) -> Tensor:
    if marks is not None:
        logits = _marked(logits, settings, marks)
    if allowed is not None:
        logits = _allowed(logits, allowed)
    temperature, top_k, top_p, min_p = settings[:, :4].split(4, axis=1)
    greedy, size = paddle.logical_or(temperature == 0, top_k == 1), logits.shape[-1]
    if bool(greedy.all()):
        return logits.argmax(-1)
    weights = _weights(logits, temperature)
    ranked = weights.sort(descending=True).astype("float64")
    last = paddle.where(top_k > 0, top_k, paddle.full_like(top_k, size)).clip(max=size).astype("int64") - 1
    least = paddle.take_along_axis(ranked, last, axis=1)
    ranked = paddle.where(ranked < least, paddle.zeros_like(ranked), ranked)
    before, total = ranked.cumsum(-1) - ranked, ranked.sum(-1, keepdim=True)
    kept = paddle.logical_or(before < top_p.astype("float64") * total, top_p >= 1)
    least = paddle.maximum(least, paddle.where(kept, ranked, paddle.ones_like(ranked)).min(-1, keepdim=True))
    least = paddle.maximum(least.astype("float32"), min_p)
    drawn = _draw(paddle.where(weights < least, paddle.zeros_like(weights), weights), uniform)
    return paddle.where(greedy.squeeze(-1), logits.argmax(-1), drawn)


def _marked(logits: Tensor, settings: Tensor, marks: TokenMarks) -> Tensor:
    """Logits with biases and penalties."""
    each = marks.offsets[1:] - marks.offsets[:-1]
    rows = paddle.repeat_interleave(paddle.arange(each.shape[0], dtype="int64"), each)
    size, tokens, counts = logits.shape[-1], marks.tokens.astype("int64"), marks.counts.astype("float32")
    inside = paddle.logical_and(tokens >= 0, tokens < size)
    tokens = paddle.where(inside, tokens, paddle.full_like(tokens, size))
    logits = paddle.concat([logits, paddle.zeros([logits.shape[0], 1])], axis=-1)  # a column for those outside
    repetition, presence, frequency = settings[:, 4:].index_select(rows).unbind(axis=1)
    found = paddle.gather_nd(logits, paddle.stack([rows, tokens], axis=-1)) + marks.bias
    found = paddle.where(counts >= 0, paddle.where(found > 0, found / repetition, found * repetition), found)
    found = paddle.where(counts > 0, found - (presence + frequency * counts), found)
    return paddle.index_put(logits, (rows, tokens), found)[:, :size]


def _allowed(logits: Tensor, allowed: Tensor) -> Tensor:
    """Logits with minus infinity for the tokens that are not allowed, and numbers for the others."""
    token = paddle.arange(logits.shape[-1], dtype="int32")
    words = allowed.index_select(token // 32, axis=1)
    shifts = (token % 32).expand(words.shape)
    may = paddle.bitwise_and(paddle.bitwise_right_shift(words, shifts), paddle.ones_like(words)).astype("bool")
    any_may = may.any(-1, keepdim=True)
    finite = paddle.where(may, logits.clip(min=-_LARGEST), paddle.full_like(logits, -float("inf")))
    return paddle.where(any_may, finite, logits)


def _weights(logits: Tensor, temperature: Tensor) -> Tensor:
    """Probabilities relative to the likeliest token's."""
    below = (logits - logits.max(-1, keepdim=True)) / temperature.clip(min=1 / _LARGEST)
    return below.exp() * (below > -80).astype("float32")  # Paddle's exp(-inf) and softmax are not quite 0


def _draw(weights: Tensor, uniform: Tensor) -> Tensor:
    cumulative = weights.astype("float64").cumsum(-1)
    target = uniform.astype("float64").unsqueeze(-1) * cumulative[:, -1:]
    return (cumulative <= target).astype("int64").sum(-1)
