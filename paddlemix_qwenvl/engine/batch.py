"""The parts of a plan as one packed batch."""

from __future__ import annotations

import numpy as np

from paddlemix_qwenvl.engine.runner import StepInputs
from paddlemix_qwenvl.engine.scheduler import Part
from paddlemix_qwenvl.models.prompts import Media


def new_media(part: Part) -> list[Media]:
    """The pictures and videos that a part reaches into."""
    start = part.sequence.computed
    stop = start + part.count
    return [each for each in part.sequence.prompt.media if each.places[-1] >= start and each.places[0] < stop]


def batch_of(parts: list[Part], block_size: int) -> tuple[StepInputs, list]:
    """What a runner takes for these parts: the inputs, and features in the order of their numbers in `source`."""
    spans = [_span(part, block_size) for part in parts]
    bounds = np.cumsum([0, *(ids.size for ids, *_ in spans)])
    ids, positions, slots = (
        np.concatenate(arrays, axis=-1) for arrays in zip(*(span[:3] for span in spans), strict=True)
    )
    tables = np.zeros([len(parts), max(len(part.sequence.blocks) for part in parts)], np.int32)
    for row, part in enumerate(parts):
        tables[row, : len(part.sequence.blocks)] = part.sequence.blocks
    wanted = [
        np.arange(stop - 1 - len(part.drafts), stop)
        for part, stop in zip(parts, bounds[1:], strict=True)
        if part.completes
    ]
    wanted = np.concatenate(wanted) if wanted else bounds[-1:] - 1  # a step gives some logits always
    source, features = _features(parts, bounds)
    inputs = StepInputs(
        ids=ids,
        position_ids=positions,
        cu_seqlens=bounds.astype(np.int32),
        lengths=np.array([part.sequence.computed + part.count + len(part.drafts) for part in parts], np.int32),
        block_tables=tables,
        slot_mapping=slots,
        wanted=wanted,
        ntk_alpha=np.repeat(np.array([part.sequence.prompt.ntk_alpha for part in parts], np.float32), np.diff(bounds)),
        source=source,
        decoding=bounds[-1] == len(parts) == wanted.size,
    )
    return inputs, features


def _span(part: Part, block_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, positions and slots of the tokens of a part."""
    sequence = part.sequence
    start = sequence.computed
    stop = start + part.count + len(part.drafts)
    ids = np.concatenate([sequence.ids[start : start + part.count], np.array(part.drafts, np.int64)])
    places = np.arange(start, stop)
    slots = np.array(sequence.blocks, np.int32)[places // block_size] * block_size + places % block_size
    return ids, sequence.positions(start, stop), slots.astype(np.int32)


def _features(parts: list[Part], bounds: np.ndarray) -> tuple[np.ndarray | None, list]:
    """`StepInputs.source` and the features it names."""
    source, features, before = np.arange(bounds[-1]), [], int(bounds[-1])
    for part, first in zip(parts, bounds[:-1], strict=True):
        start = part.sequence.computed
        for media in new_media(part):
            low, high = np.searchsorted(media.places, (start, start + part.count)).tolist()
            source[first + media.places[low:high] - start] = before + np.arange(high - low)
            features.append(part.sequence.features[media.key][low:high])
            before += high - low
    return (source, features) if features else (None, [])
