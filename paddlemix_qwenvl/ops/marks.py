"""What `sample` is told about single tokens."""

from __future__ import annotations

from typing import NamedTuple

from paddle import Tensor

SETTINGS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
"""Columns of the settings that `sample` takes a row."""


class TokenMarks(NamedTuple):
    """Tokens of each row that penalties or a bias fall on, each once; row b's are numbers `offsets[b]` to `offsets[b + 1]`.

    Attributes:
        offsets: int32 [B + 1].
        tokens: int32 [N]; those outside of the vocabulary, on a GPU or in plain Paddle, are no marks.
        counts: int32 [N], times the token is in the answer; 0 for one of the prompt alone, -1 for one that is in neither.
        bias: float32 [N], added to the logit.
    """

    offsets: Tensor
    tokens: Tensor
    counts: Tensor
    bias: Tensor
