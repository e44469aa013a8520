"""Where a prompt's tokens stand. Plain NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.media import content_key
from paddlemix_qwenvl.models.prompts import Media, Prompt, rows_of
from paddlemix_qwenvl.models.qwen_vl.images import Slot, find_slots, picture_name, read_pictures


def ntk_alpha(length: int, seq_length: int) -> float:
    """What dynamic NTK stretches the rotary base by for a prompt of `length` tokens: 1 up to `seq_length`, then 3, 7, ...

    Source: `QWenModel.forward` of Qwen-VL's modeling_qwen.py. It stays what it was at the prompt while tokens are added.
    """
    return max(2 ** math.ceil(math.log2(length / seq_length) + 1) - 1, 1)


def prompts(config, inputs: Mapping[str, Any]) -> list[Prompt]:
    """The rows of a batch. Positions are places in the padded row, as in the original.

    Args:
        config: the model's `QWenVLConfig`.
        inputs: what the processor returned, as NumPy arrays; without `images`, pictures are read from the paths in the ids.

    Raises:
        PromptError: ids in which the pictures cannot be made out, or that do not fit `images`.
        MediaError: a picture that cannot be read.
    """
    ids, mask = rows_of(inputs, config.vocab_size)
    visual, length = config.visual, ids.shape[1]
    slots = find_slots(ids, visual["image_start_id"], visual["n_queries"])
    pixels = pixels_of(ids, slots, inputs.get("images"), visual)
    positions, following = np.broadcast_to(np.arange(length), ids.shape), np.full(len(ids), length)
    if (given := inputs.get("position_ids")) is not None:
        positions, following = given, given.max(axis=1) + 1
    alpha = ntk_alpha(length, config.seq_length) if config.use_dynamic_ntk else 1.0
    rows = []
    for row, kept in enumerate(mask):
        before = np.cumsum(kept) - 1
        media = [
            Media(content_key(picture), {"images": picture[None]}, before[slot.start : slot.stop])
            for slot, picture in zip(slots, pixels, strict=True)
            if slot.row == row
        ]
        rows.append(Prompt(ids[row, kept], positions[row, kept][None], int(following[row]), media, float(alpha)))
    return rows


def pixels_of(ids: np.ndarray, slots: list[Slot], images, visual: Mapping[str, Any]):
    """Pixels `[pictures, 3, side, side]` of all pictures of a batch: those given, or those whose paths the ids hold.

    Raises:
        PromptError, MediaError: as `prompts`.
    """
    if images is None:
        names = [picture_name(ids[slot.row, slot.start : slot.stop], visual["image_start_id"]) for slot in slots]
        return read_pictures(names, visual["image_size"])[0] if names else []
    if images.shape[0] != len(slots):
        raise PromptError(
            f"the text has {len(slots)} picture(s) but images has {images.shape[0]}: pass the processor's outputs on as they are, "
            f"all of them from one call."
        )
    return images


def graph_inputs(config, images: np.ndarray) -> dict[str, np.ndarray]:
    """What the vision graph takes for the encoder's inputs of some pictures."""
    return {"images": images}
