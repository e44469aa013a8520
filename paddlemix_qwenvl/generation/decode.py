"""The decode loop: one prefill, then one token a row and step against the key-value cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import paddle

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.generation.settings import GenerationSettings
from paddlemix_qwenvl.layers.cache import KVCache
from paddlemix_qwenvl.parallel import tensor_parallel


@dataclass
class Step:
    """What the loop needs of a model after its prefill.

    Attributes:
        logits: float32 `[B, vocab]` of each row's last token.
        cache: keys and values of the prompt, with room for the answer.
        decode: `(token ids [B], cache) -> logits [B, vocab]`, one token more a row.
    """

    logits: paddle.Tensor
    cache: KVCache
    decode: Callable


@dataclass
class Answer:
    """New tokens of a batch.

    Attributes:
        token_ids: int64 `[B, new]`, rows that ended earlier filled with the pad token.
        scores: float32 `[B, 1]`, mean log-probability of a row's new tokens.
        seconds: wall time of the decode steps.
    """

    token_ids: paddle.Tensor
    scores: paddle.Tensor
    seconds: float = 0.0


@dataclass
class _Rows:
    """What has been generated so far, on the host."""

    unfinished: np.ndarray
    tokens: list = field(default_factory=list)
    score_sum: np.ndarray | float = 0.0
    counts: np.ndarray | int = 0

    def add(self, token_ids: np.ndarray, scores: np.ndarray, settings: GenerationSettings) -> np.ndarray:
        """Take one token a row; finished rows get the pad token. Returns what was taken."""
        taken = np.where(self.unfinished, token_ids, settings.pad_token_id)
        self.tokens.append(taken)
        self.score_sum = self.score_sum + np.where(self.unfinished, scores, 0.0)
        self.counts = self.counts + self.unfinished
        self.unfinished = self.unfinished & ~np.isin(taken, settings.eos_token_ids)
        return taken

    def ids(self) -> np.ndarray:
        return np.stack(self.tokens, axis=1).astype(np.int64)


def generate_tokens(
    step: Step, prompt_ids, settings: GenerationSettings, streamer=None, stopping_criteria=()
) -> Answer:
    """Greedy search or sampling.

    Args:
        step: the model after its prefill.
        prompt_ids: int64 `[B, S]`, for the repetition penalty and the criteria.
        streamer: `put(token_ids [B])` each step, `end()` once.
        stopping_criteria: callables of `(all ids [B, S + new], scores [B, 1])`; generation ends when one returns True.
    """
    batch = prompt_ids.shape[0]
    rows = _Rows(np.ones(batch, bool))
    draws = random_generator(settings.seed)
    seen = _seen(prompt_ids, step.logits.shape[-1]) if settings.repetition_penalty != 1.0 else None
    logits, started = step.logits, time.perf_counter()
    try:
        for count in range(1, settings.max_new_tokens + 1):
            if count <= settings.min_new_tokens and settings.eos_token_ids:
                logits[:, settings.eos_token_ids] = -float("inf")
            token_ids, scores = _choose(logits, seen, settings, draws.random(batch, dtype=np.float32))
            taken = rows.add(token_ids.numpy(), scores, settings)
            if streamer is not None:
                streamer.put(taken)
            if (
                not rows.unfinished.any()
                or count == settings.max_new_tokens
                or _stops(stopping_criteria, prompt_ids, rows)
            ):
                break
            taken = paddle.to_tensor(taken)
            if seen is not None:
                seen[paddle.arange(batch), taken] = True
            logits = step.decode(taken, step.cache)
    finally:
        if streamer is not None:
            streamer.end()
    seconds = time.perf_counter() - started
    mean = rows.score_sum / np.maximum(rows.counts, 1)
    return Answer(paddle.to_tensor(rows.ids()), paddle.to_tensor(mean.astype(np.float32)).unsqueeze(-1), seconds)


def random_generator(seed: int | None) -> np.random.Generator:
    """The draws of one call, the same on all ranks; `seed` None takes one from Paddle's own generator."""
    if seed is None:
        drawn = paddle.randint(0, 2**31 - 1, [1], dtype="int64")
        parallel = tensor_parallel()
        seed = int(parallel.all_reduce(drawn if parallel.rank == 0 else paddle.zeros_like(drawn)))
    return np.random.default_rng(seed)


def _choose(logits, seen, settings: GenerationSettings, uniform: np.ndarray):
    """One token a row, and its log-probability before temperature and cuts."""
    token_ids = ops.sample(
        logits,
        seen,
        settings.temperature,
        settings.top_k,
        settings.top_p,
        settings.repetition_penalty,
        paddle.to_tensor(uniform),
    )
    chosen = paddle.take_along_axis(logits, token_ids.unsqueeze(-1), axis=-1)
    scores = (chosen - paddle.logsumexp(logits, axis=-1, keepdim=True)).squeeze(-1)
    return token_ids, scores.numpy()


def _seen(prompt_ids, vocab_size: int):
    seen = np.zeros((prompt_ids.shape[0], vocab_size), bool)
    np.put_along_axis(seen, prompt_ids.numpy(), True, axis=1)
    return paddle.to_tensor(seen)


def _stops(criteria, prompt_ids, rows: _Rows) -> bool:
    if not criteria:
        return False
    ids = paddle.concat([prompt_ids, paddle.to_tensor(rows.ids())], axis=1)
    scores = paddle.to_tensor(np.asarray(rows.score_sum / np.maximum(rows.counts, 1), np.float32)).unsqueeze(-1)
    if callable(criteria):
        return bool(criteria(ids, scores))
    return any(bool(criterion(ids, scores)) for criterion in criteria)
