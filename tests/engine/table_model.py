"""A language model that is nothing but a seeded table: every history of tokens has its own logits."""

import numpy as np
import paddle

from paddlemix_qwenvl.engine.decode import Step


class Histories:
    """Stands in for the KV cache: it remembers the tokens themselves."""

    def __init__(self, rows):
        self.rows = [tuple(row) for row in rows]

    def reorder(self, rows) -> None:
        self.rows = [self.rows[i] for i in rows.tolist()]


class TableModel:
    """Logits of `vocab` tokens, drawn with a deviation of `scale` from a generator that the history seeds."""

    def __init__(self, vocab: int, seed: int = 0, scale: float = 2.0):
        self.vocab, self.seed, self.scale = vocab, seed, scale
        self.decoded = self.rows_decoded = 0

    def logits(self, history) -> np.ndarray:
        draws = np.random.default_rng([self.seed, *(int(token) for token in history)])
        return (self.scale * draws.standard_normal(self.vocab)).astype(np.float32)

    def log_probabilities(self, history) -> np.ndarray:
        logits = self.logits(history).astype(np.float64)
        return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()

    def step(self, prompts) -> Step:
        """What `generate_tokens` gets after a prefill."""
        return Step(self._stack(prompts), Histories(prompts), self._decode)

    def _decode(self, token_ids, cache: Histories):
        self.decoded += 1
        self.rows_decoded += len(cache.rows)
        cache.rows = [(*row, token) for row, token in zip(cache.rows, token_ids.tolist(), strict=True)]
        return self._stack(cache.rows)

    def _stack(self, rows):
        return paddle.to_tensor(np.stack([self.logits(row) for row in rows]))
