"""The next token of each sequence, by settings of its own, in one call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import paddle

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.device import to_device
from paddlemix_qwenvl.engine.marks import Marks
from paddlemix_qwenvl.engine.sequence import Sequence
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.ops.arrays import to_device_together
from paddlemix_qwenvl.ops.marks import SETTINGS, TokenMarks


@dataclass(frozen=True)
class Row:
    """What is drawn from one row of logits.

    Attributes:
        settings: of the sequence.
        uniform: its draw.
        marks, new_tokens: penalised tokens and length of the answer up to here.
        mask: int32 `[ceil(vocab / 32)]`, the tokens that may follow; None for all.
        top: of the likeliest tokens, this many are told.
    """

    settings: GenerationSettings
    uniform: float
    marks: Marks
    new_tokens: int
    mask: np.ndarray | None = None
    top: int = 0


def rows_of(sequence: Sequence, drafts: list[int]) -> list[Row]:
    """The rows of a sequence's next token, and of those after each token of a draft."""
    rows, marks, matcher = [], sequence.marks, sequence.matcher
    top = sequence.request.top_logprobs
    if drafts:
        marks, matcher = marks.copy(), matcher.copy() if matcher else None
    for number, draft in enumerate([*drafts, None], sequence.total - sequence.prompt_length):
        mask = matcher.mask() if matcher else None
        rows.append(Row(sequence.settings, sequence.uniform(number), marks, number, mask, top))
        if draft is not None:
            marks = marks.copy()
            marks.add(draft)
            if matcher:
                matcher.accept(draft)
    return rows


def settings_of(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """As `ops.sample` takes them: settings float32 `[R, 7]`, draws `[R]`."""
    settings = [[float(getattr(row.settings, name)) for name in SETTINGS] for row in rows]
    return np.array(settings, np.float32), np.array([row.uniform for row in rows], np.float32)


def draw(logits, rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """One token a row of `logits` `[R, vocab]`, and the logarithms of their probabilities before all settings.

    These are NaN where the logits are no numbers.
    """
    marks, masks = _marks(rows), _masks(rows, logits.shape[-1])
    settings, uniform, *others = to_device_together([*settings_of(rows), *marks, *masks])
    given = TokenMarks(*others[: len(marks)]) if marks else None
    tokens, scores = ops.sample(logits, settings, uniform, given, others[-1] if masks else None)
    return tokens.numpy(), scores.numpy()


def likeliest(logits, rows: list[Row]) -> list[tuple[tuple[int, float], ...]]:
    """Of each row of `logits` `[R, vocab]` the `top` likeliest tokens, and the logarithms of their probabilities, as `draw`."""
    found: list[tuple[tuple[int, float], ...]] = [()] * len(rows)
    asked = [place for place, row in enumerate(rows) if row.top]
    if asked:
        chosen = logits.index_select(to_device(asked)).astype("float32")
        most = min(max(rows[place].top for place in asked), chosen.shape[-1])
        scores, tokens = paddle.topk(paddle.nn.functional.log_softmax(chosen, axis=-1), most)
        for place, *each in zip(asked, tokens.tolist(), scores.tolist(), strict=True):
            found[place] = tuple(zip(*each, strict=True))[: rows[place].top]
    return found


def _marks(rows: list[Row]) -> list[np.ndarray]:
    """The parts of `TokenMarks`; none where no row has any."""
    sizes = [row.marks.tokens.size for row in rows]
    if not any(sizes):
        return []
    return [
        np.cumsum([0, *sizes], dtype=np.int32),
        np.concatenate([row.marks.tokens for row in rows]),
        np.concatenate([row.marks.counts for row in rows]),
        np.concatenate([row.marks.biases(row.new_tokens, row.settings) for row in rows]),
    ]


def _masks(rows: list[Row], vocab_size: int) -> list[np.ndarray]:
    """One array of bits of all rows; none where no row has any."""
    if all(row.mask is None for row in rows):
        return []
    every = np.full(-(-vocab_size // 32), -1, np.int32)
    return [np.stack([every if row.mask is None else row.mask for row in rows])]
