"""The tokens of a sequence that penalties and biases fall on."""

from __future__ import annotations

import numpy as np

from paddlemix_qwenvl.engine.settings import GenerationSettings


class Marks:
    """Of one sequence, as `ops.marks.TokenMarks` has them; grows with the answer.

    Attributes:
        tokens: int32 `[n]`.
        counts: int32 `[n]`, times in the answer, -1 for those that were neither there nor in the prompt.
        bias: float32 `[n]`.
        penalised: tokens of the answer are counted.

    Args:
        held: places of the end tokens among `tokens`, which only ever get more at their end.
    """

    def __init__(self, tokens: np.ndarray, counts: np.ndarray, bias: np.ndarray, penalised: bool, held: np.ndarray):
        self.tokens, self.counts, self.bias = tokens, counts, bias
        self.penalised, self._held = penalised, held

    @classmethod
    def of(cls, settings: GenerationSettings, prompt_ids: np.ndarray) -> Marks:
        """Those of a prompt, before the first token of its answer."""
        penalised = (
            settings.repetition_penalty != 1 or settings.presence_penalty != 0 or settings.frequency_penalty != 0
        )
        seen = np.unique(prompt_ids) if settings.repetition_penalty != 1 else np.array([], np.int64)
        held = np.array(settings.eos_token_ids if settings.min_new_tokens else [], np.int64)
        tokens = np.union1d(np.union1d(seen, held), np.array([*settings.logit_bias], np.int64))
        bias = np.array([settings.logit_bias.get(int(token), 0.0) for token in tokens], np.float32)
        return cls(
            tokens.astype(np.int32),
            np.where(np.isin(tokens, seen), 0, -1).astype(np.int32),
            bias,
            penalised,
            np.flatnonzero(np.isin(tokens, held)),
        )

    def copy(self) -> Marks:
        """Another that grows by itself."""
        return Marks(self.tokens, self.counts.copy(), self.bias, self.penalised, self._held)

    def add(self, token_id: int) -> None:
        """The answer has one more token."""
        if not self.penalised:
            return
        found = np.flatnonzero(self.tokens == token_id)
        if found.size:
            self.counts[found[0]] = max(1, self.counts[found[0]] + 1)
            return
        self.tokens = np.append(self.tokens, np.int32(token_id))
        self.counts = np.append(self.counts, np.int32(1))
        self.bias = np.append(self.bias, np.float32(0))

    def biases(self, new_tokens: int, settings: GenerationSettings) -> np.ndarray:
        """`bias` for the token after `new_tokens` of them: end tokens are held back where they come too early."""
        if new_tokens >= settings.min_new_tokens:
            return self.bias
        bias = self.bias.copy()
        bias[self._held] = -np.inf
        return bias
