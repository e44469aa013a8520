"""Tokens drawn from logits, and their probabilities."""

from __future__ import annotations

import paddle
from paddle import Tensor

from ..cast import to_float32


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
    logits = to_float32(logits)
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
    """`sample` for static graphs, whose attributes are fixed: the settings are a tensor.

    Args:
        logits: [B, V].
        seen: [B, V] bool, true at tokens to penalise.
        settings: float32 [4]: temperature, top_k, top_p and repetition penalty.
        uniform: [B] in [0, 1).

    Returns:
        [B] int64.
    """
    temperature, top_k, top_p, penalty = settings.split(4)
    logits = to_float32(logits)
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
    """Logarithms of tokens' probabilities under softmax(logits).

    Args:
        logits: [B, V].
        token_ids: [B] int64.

    Returns:
        [B] float32.
    """
    logits = to_float32(logits)
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
