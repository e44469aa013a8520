"""The decode loop: one prefill, then one token a row and step against the key-value cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import paddle

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.engine.finite import Watch
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.layers.kv_cache import KVCache
from paddlemix_qwenvl.parallel import tensor_parallel


@dataclass
class Step:
    """What the loop needs of a model after its prefill.

    Attributes:
        logits: float32 `[B, vocab]` of each row's last token.
        cache: keys and values of the prompt, with room for the answer.
        decode: `(token ids [B], cache) -> logits [B, vocab]`, one token more a row.
        dtype: what it computes in.
    """

    logits: paddle.Tensor
    cache: KVCache
    decode: Callable
    dtype: str = "float32"


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


class _Rows:
    """What has been generated so far, on the host: of every row its tokens, and which rows go on."""

    def __init__(self, prompt_ids: np.ndarray, settings: GenerationSettings):
        batch, self.start = prompt_ids.shape
        self.settings = settings
        self.ids = np.full((batch, self.start + settings.max_new_tokens), settings.pad_token_id, np.int64)
        self.ids[:, : self.start] = prompt_ids
        self.length = self.start
        self.going = np.arange(batch)
        self.score_sum, self.counts = np.zeros(batch), np.zeros(batch, np.int64)

    def add(self, token_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Take one token for each row that goes on. Returns this step's tokens of all rows, `[B]`."""
        self.ids[self.going, self.length] = token_ids
        self.score_sum[self.going] += scores
        self.counts[self.going] += 1
        self.length += 1
        return self.ids[:, self.length - 1]

    def end(self, criteria) -> np.ndarray:
        """Which of the rows that went on still do, bool; from now on only these do."""
        ended = np.isin(self.ids[:, self.length - 1], self.settings.eos_token_ids)
        if criteria:
            ids = paddle.to_tensor(self.ids[:, : self.length])
            scores = paddle.to_tensor(self.scores())
            for criterion in criteria:
                ended |= np.asarray(criterion(ids, scores), bool)
            ended = tensor_parallel().first_rank(paddle.to_tensor(ended.astype(np.int64))).numpy() > 0
        kept = ~ended[self.going]
        self.going = self.going[kept]
        return kept

    def scores(self) -> np.ndarray:
        """Mean log-probability of each row's new tokens, float32 `[B, 1]`."""
        return (self.score_sum / np.maximum(self.counts, 1)).astype(np.float32)[:, None]

    def answer(self, seconds: float) -> Answer:
        new = np.ascontiguousarray(self.ids[:, self.start : self.length])
        return Answer(paddle.to_tensor(new), paddle.to_tensor(self.scores()), seconds)


def generate_tokens(
    step: Step, prompt_ids, settings: GenerationSettings, streamer=None, stopping_criteria=()
) -> Answer:
    """Greedy search or sampling. A row that has ended leaves the batch and the cache, so that it costs nothing further.

    Args:
        step: the model after its prefill.
        prompt_ids: int64 `[B, S]`, for the repetition penalty and the criteria.
        streamer: `put(token_ids [B])` each step, with the pad token for rows that have ended, and `end()` once.
        stopping_criteria: callables as in `engine.stopping`.

    Raises:
        GenerationError: the model computed what is no number.
    """
    batch = prompt_ids.shape[0]
    rows = _Rows(prompt_ids.numpy(), settings)
    draws = random_generator(settings.seed)
    seen = _seen(prompt_ids, step.logits.shape[-1]) if settings.repetition_penalty != 1.0 else None
    logits, watch, started = step.logits, Watch(step.dtype), time.perf_counter()
    try:
        for count in range(1, settings.max_new_tokens + 1):
            watch.add(logits)
            if count <= settings.min_new_tokens and settings.eos_token_ids:
                logits[:, settings.eos_token_ids] = -float("inf")
            uniform = draws.random(batch, dtype=np.float32)[rows.going]
            token_ids, scores = _choose(logits, seen, settings, uniform)
            taken = rows.add(token_ids.numpy(), scores)
            if streamer is not None:
                streamer.put(taken)
            kept = rows.end(stopping_criteria)
            if not kept.any() or count == settings.max_new_tokens:
                break
            if not kept.all():
                kept = paddle.to_tensor(np.flatnonzero(kept))
                step.cache.reorder(kept)
                token_ids, seen = (each if each is None else each.index_select(kept) for each in (token_ids, seen))
            if seen is not None:
                seen[paddle.arange(token_ids.shape[0]), token_ids] = True
            logits = step.decode(token_ids, step.cache)
        watch.look()
    finally:
        if streamer is not None:
            streamer.end()
    return rows.answer(time.perf_counter() - started)


def random_generator(seed: int | None) -> np.random.Generator:
    """The draws of one call, the same on all ranks; `seed` None takes one from Paddle's own generator."""
    if seed is None:
        seed = int(tensor_parallel().first_rank(paddle.randint(0, 2**31 - 1, [1], dtype="int64")))
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
    return token_ids, ops.log_probability(logits, token_ids).numpy()


def _seen(prompt_ids, vocab_size: int):
    seen = np.zeros((prompt_ids.shape[0], vocab_size), bool)
    np.put_along_axis(seen, prompt_ids.numpy(), True, axis=1)
    return paddle.to_tensor(seen)
