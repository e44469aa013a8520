"""Beam search, scored as PaddleNLP 3.0.0b4 scores (`BeamSearchScorer`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import paddle
from paddle.nn import functional as F

from paddlemix_qwenvl.device import to_device
from paddlemix_qwenvl.engine.settings import GenerationSettings

_NEVER = -1e9


class Hypotheses:
    """The best ended answers.

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


@dataclass(frozen=True)
class Choice:
    """How the beams go on: beam `i` is what beam `origins[i]` was, and token `tokens[i]`."""

    origins: list[int]
    tokens: list[int]


class BeamSearch:
    """The best of `settings.num_beams` continuations of one prompt.

    Attributes:
        answer, score: once `advance` returns None: the best answer, with its end token where there is room for it, and its score.
    """

    def __init__(self, settings: GenerationSettings):
        self.settings, self._found = settings, Hypotheses(settings)
        self._scores = np.where(np.arange(settings.num_beams) == 0, 0.0, _NEVER).astype(np.float32)
        self._answers: list[list[int]] = [[] for _ in range(settings.num_beams)]
        self._count = 0
        self.answer: list[int] = []
        self.score = 0.0

    def advance(self, logits, ids: np.ndarray) -> Choice | None:
        """One token more.

        Args:
            logits: float32 `[beams, vocab]`.
            ids: int64 `[beams, S]`, all tokens of the beams, prompt and answer.

        Returns:
            How the beams go on, or None where the search is over.
        """
        settings, ends = self.settings, self.settings.eos_token_ids
        beams, vocab = logits.shape
        self._count += 1
        if self._count <= settings.min_new_tokens and ends:
            logits[:, ends] = _NEVER
        totals = _penalised(F.log_softmax(logits, axis=-1), to_device(ids), settings)
        totals = totals + to_device(self._scores).unsqueeze(-1)
        best, chosen = (x.tolist() for x in paddle.topk(totals.flatten(), max(2, 1 + len(ends)) * beams))
        origins, tokens, scores = [], [], []
        for rank, (total, place) in enumerate(zip(best, chosen, strict=True)):
            origin, token = divmod(place, vocab)
            if token in ends:
                if rank < beams:
                    self._found.add(self._answers[origin], total)
                continue
            origins.append(origin), tokens.append(token), scores.append(total)
            if len(tokens) == beams:
                break
        done = self._found.done(best[0], self._count - 1)
        self._answers = [[*self._answers[origin], token] for origin, token in zip(origins, tokens, strict=True)]
        self._scores = np.array(scores, np.float32)
        if not done and self._count < settings.max_new_tokens:
            return Choice(origins, tokens)
        if not done:
            for answer, score in zip(self._answers, scores, strict=True):
                self._found.add(answer, score)
        self.score, answer = self._found.best[-1]
        self.answer = (answer + ends[:1])[: settings.max_new_tokens]
        return None


def _penalised(log_probabilities, ids, settings: GenerationSettings):
    """Tokens that were there before count less, by transformers' rule for beams: the penalty multiplies log-probabilities."""
    if settings.repetition_penalty == 1.0:
        return log_probabilities
    seen = paddle.take_along_axis(log_probabilities, ids, axis=-1)
    return paddle.put_along_axis(log_probabilities, ids, seen * settings.repetition_penalty, axis=-1)
