"""A prompt as an engine takes it: one row without padding, its pictures and videos beside it. Plain NumPy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paddlemix_qwenvl.errors import PromptError


@dataclass(frozen=True)
class Media:
    """A picture or video of a prompt.

    Attributes:
        key: of its content, shape and what is to be made of it; equal media have equal features.
        inputs: what the family's encoder takes, by name. Those of several media are joined along their first axis.
        places: int64 `[n]`, the tokens of the prompt that its features `[n, hidden]` replace, rising.
    """

    key: bytes
    inputs: Mapping[str, np.ndarray]
    places: np.ndarray


@dataclass(frozen=True)
class Prompt:
    """One row.

    Attributes:
        token_ids: int64 `[n]`, placeholders grown to the media's token counts.
        position_ids: int64 `[position_rows, n]`.
        next_position: of the first token of the answer; later ones follow it one by one.
        media: in the order of their places.
        ntk_alpha: what the rotary base is stretched by, 1 for nothing.
    """

    token_ids: np.ndarray
    position_ids: np.ndarray
    next_position: int
    media: list[Media] = field(default_factory=list)
    ntk_alpha: float = 1.0


def joined(media: Iterable[Media]) -> dict[str, np.ndarray]:
    """The encoder's inputs for all of these at once; those of one as they are."""
    first, *others = (each.inputs for each in media)
    if not others:
        return dict(first)
    return {name: np.concatenate([first[name], *(each[name] for each in others)]) for name in first}


def rows_of(inputs: Mapping[str, Any], vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids int64 `[B, S]` and mask bool `[B, S]` of what a processor returned.

    Raises:
        PromptError: the ids are no batch or outside the vocabulary, the mask has another shape, or there is no row, or
            one without tokens.
    """
    ids = np.asarray(inputs["input_ids"])
    if not len(ids):
        raise PromptError("the batch has no rows: give it one prompt at least.")
    mask = inputs.get("attention_mask")
    mask = np.ones(ids.shape, bool) if mask is None else np.asarray(mask)
    check_mask(ids.shape, mask.shape)
    mask = mask.astype(bool)
    if (empty := np.flatnonzero(~mask.any(axis=1))).size:
        raise PromptError(f"row {empty[0]} of the batch has no tokens: leave it out, or give it a prompt.")
    check_vocabulary(int(ids[mask].min()), int(ids[mask].max()), vocab_size)
    return ids.astype(np.int64), mask


def check_mask(ids: Iterable[int], mask: Iterable[int]) -> None:
    """Raises PromptError for a mask of another shape than the ids."""
    if list(mask) != list(ids):
        raise PromptError(f"attention_mask is {list(mask)} but input_ids is {list(ids)}: give them one shape.")


def check_vocabulary(least: int, largest: int, vocab_size: int) -> None:
    """Raises PromptError for tokens, from `least` to `largest`, that the model does not know."""
    if not 0 <= least <= largest < vocab_size:
        raise PromptError(
            f"input_ids holds tokens from {least} to {largest} but the model knows 0 to {vocab_size - 1}: use the tokenizer that "
            f"belongs to the model."
        )
