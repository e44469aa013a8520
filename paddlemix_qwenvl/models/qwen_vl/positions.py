"""Where a prompt's tokens stand. Plain NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from paddlemix_qwenvl.models.packed_inputs import PackedInputs
from paddlemix_qwenvl.models.qwen_vl.images import find_slots


def ntk_alpha(length: int, seq_length: int) -> float:
    """What dynamic NTK stretches the rotary base by for a prompt of `length` tokens: 1 up to `seq_length`, then 3, 7, ...

    Source: `QWenModel.forward` of Qwen-VL's modeling_qwen.py. It stays what it was at the prompt while tokens are added.
    """
    return max(2 ** math.ceil(math.log2(length / seq_length) + 1) - 1, 1)


def pack_inputs(config, inputs: Mapping[str, Any]) -> PackedInputs:
    """What graphs take of what the processor returned.

    Args:
        config: the model's `QWenVLConfig`.
        inputs: NumPy arrays.

    Raises:
        PromptError: ids in which the pictures cannot be made out.
    """
    ids, mask, visual = inputs["input_ids"], inputs["attention_mask"].astype(bool), config.visual
    is_feature = np.zeros(ids.shape, bool)
    for slot in find_slots(ids, visual["image_start_id"], visual["n_queries"]):
        is_feature[slot.row, slot.start : slot.stop] = True
    pictures, longest = inputs.get("images"), ids.shape[1]
    alpha = ntk_alpha(longest, config.seq_length) if config.use_dynamic_ntk else 1
    return PackedInputs(
        rows=[row[kept] for row, kept in zip(ids, mask, strict=True)],
        vision=[] if pictures is None else [{"images": pictures}],
        is_feature=[] if pictures is None else [is_feature[mask]],
        position_ids=np.nonzero(mask)[1][None],  # a token's place in its padded row, as in the original
        next_positions=np.full(len(ids), longest),
        constants={"ntk_alpha": np.float32([alpha])},
    )
