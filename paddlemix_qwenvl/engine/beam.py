"""Beam search on the key-value cache, scored as PaddleNLP 3.0.0b4 scores (`BeamSearchScorer`)."""

from __future__ import annotations

import time

import numpy as np
import paddle
from paddle.nn import functional as F

from paddlemix_qwenvl.engine.decode import Answer, Step
from paddlemix_qwenvl.engine.finite import Watch
from paddlemix_qwenvl.engine.settings import GenerationSettings

_NEVER = -1e9


class Hypotheses:
    """The best ended answers of one row.

    A score is the sum of log-probabilities over `((tokens before the end + 5) / 6) ** length_penalty`.
    """

    def __init__(self, settings: GenerationSettings):
        self.settings, self.best = settings, []

    def _score(self, total: float, length: int) -> float:
        return total / ((length + 5) / 6) ** self.settings.length_penalty

    def add(self, tokens: list[int], total: float) -> None:
        """Count in an answer without its end token, if it is one of the `num_beams` best."""
        self.best = sorted([*self.best, (self._score(total, len(tokens)), tokens)], key=lambda one: one[0])
        self.best = self.best[-self.settings.num_beams :]

    def done(self, total: float, length: int) -> bool:
        """Whether no open beam, the best of which has `total`, can do better."""
        if len(self.best) < self.settings.num_beams:
            return False
        return self.settings.early_stopping or self.best[0][0] >= self._score(total, length)


def beam_search(step: Step, prompt_ids, settings: GenerationSettings) -> Answer:
    """The best of `settings.num_beams` continuations of each row; arguments as `generate_tokens`."""
    started = time.perf_counter()
    batch, beams, vocab, ends = prompt_ids.shape[0], settings.num_beams, step.logits.shape[-1], settings.eos_token_ids
    found, open_rows = [Hypotheses(settings) for _ in range(batch)], [True] * batch
    rows = paddle.arange(batch * beams) // beams
    step.cache.reorder(rows)
    ids, logits = prompt_ids.index_select(rows), step.logits.index_select(rows)
    answers: list[list[int]] = [[] for _ in range(batch * beams)]
    scores = np.where(np.arange(batch * beams) % beams == 0, 0.0, _NEVER).astype(np.float32)
    watch = Watch(step.dtype)
    for count in range(1, settings.max_new_tokens + 1):
        watch.add(logits)
        if count <= settings.min_new_tokens and ends:
            logits[:, ends] = _NEVER
        totals = _penalised(F.log_softmax(logits, axis=-1), ids, settings) + paddle.to_tensor(scores).unsqueeze(-1)
        best, chosen = paddle.topk(totals.reshape([batch, beams * vocab]), max(2, 1 + len(ends)) * beams, axis=1)
        best, chosen = best.numpy(), chosen.numpy()
        origins, tokens = np.zeros(batch * beams, np.int64), np.full(batch * beams, settings.pad_token_id, np.int64)
        scores = np.zeros(batch * beams, np.float32)
        for row in filter(open_rows.__getitem__, range(batch)):
            first, taken = row * beams, 0
            for rank, (total, place) in enumerate(zip(best[row].tolist(), chosen[row].tolist(), strict=True)):
                origin, token = first + place // vocab, place % vocab
                if token in ends:
                    if rank < beams:
                        found[row].add(answers[origin], total)
                    continue
                scores[first + taken], tokens[first + taken], origins[first + taken] = total, token, origin
                taken += 1
                if taken == beams:
                    break
            open_rows[row] = not found[row].done(float(best[row].max()), count - 1)
        answers = [[*answers[origin], token] for origin, token in zip(origins.tolist(), tokens.tolist(), strict=True)]
        if not any(open_rows) or count == settings.max_new_tokens:
            break
        beam_rows, next_tokens = paddle.to_tensor(origins), paddle.to_tensor(tokens)
        ids = paddle.concat([ids.index_select(beam_rows), next_tokens.unsqueeze(-1)], axis=1)
        step.cache.reorder(beam_rows)
        logits = step.decode(next_tokens, step.cache)
    watch.look()
    for row in filter(open_rows.__getitem__, range(batch)):
        for beam in range(row * beams, (row + 1) * beams):
            found[row].add(answers[beam], float(scores[beam]))
    return _answer([hypotheses.best[-1] for hypotheses in found], settings, time.perf_counter() - started)


def _answer(best: list[tuple[float, list[int]]], settings: GenerationSettings, seconds: float) -> Answer:
    """The best answers with their end token where there is room for it, filled up to one length."""
    ends = settings.eos_token_ids[:1]
    rows = [(tokens + ends)[: settings.max_new_tokens] for _, tokens in best]
    longest = max(map(len, rows))
    ids = [row + [settings.pad_token_id] * (longest - len(row)) for row in rows]
    scores = np.array([[score] for score, _ in best], np.float32)
    return Answer(paddle.to_tensor(ids, dtype="int64"), paddle.to_tensor(scores), seconds)


def _penalised(log_probabilities, ids, settings: GenerationSettings):
    """Tokens that were there before count less, by transformers' rule for beams: the penalty multiplies log-probabilities."""
    if settings.repetition_penalty == 1.0:
        return log_probabilities
    seen = paddle.take_along_axis(log_probabilities, ids, axis=-1)
    return paddle.put_along_axis(log_probabilities, ids, seen * settings.repetition_penalty, axis=-1)
