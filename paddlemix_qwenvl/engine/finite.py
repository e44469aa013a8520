"""Logits that are no numbers, found before they become an answer."""

from __future__ import annotations

import math

from paddlemix_qwenvl.errors import GenerationError

STEPS = 32  # between two looks, each of which waits for the device


class Watch:
    """Adds up all logits, so that one number tells whether NaN or infinity was among them. Minus infinity, which is how tokens
    are ruled out, counts as a number.

    Args:
        dtype: what the model computes in, for the message.
    """

    def __init__(self, dtype: str):
        self._dtype, self._total, self._steps = dtype, 0.0, 0

    def add(self, logits) -> None:
        """Count in one step's logits `[B, vocab]`; the first ones, and every `STEPS` after, are looked at.

        Raises:
            GenerationError: NaN or infinity was among them.
        """
        self._total = self._total + logits.sum()
        self._steps += 1
        if self._steps % STEPS == 1:
            self.look()

    def look(self) -> None:
        """Raises GenerationError if NaN or infinity was among the logits so far."""
        if not float(self._total) < math.inf:
            raise not_finite(self._dtype)


def not_finite(dtype: str) -> GenerationError:
    """The error for logits of a model in `dtype`."""
    wider = {"float16": 'dtype="bfloat16" or dtype="float32"', "bfloat16": 'dtype="float32"'}.get(dtype)
    remedy = f"what overflows in {dtype} does not with {wider}" if wider else "float32 is the widest there is"
    return GenerationError(
        f"the model computed NaN or infinity in {dtype}, from which no token can be taken: {remedy}; `paddlemix-qwenvl doctor "
        f"--model_path FOLDER` finds weights that are NaN themselves."
    )
