"""Where a prompt's tokens stand. Plain Python, which the predictor uses too."""

from __future__ import annotations

import math


def ntk_alpha(length: int, seq_length: int) -> float:
    """What dynamic NTK stretches the rotary base by for a prompt of `length` tokens: 1 up to `seq_length`, then 3, 7, ...

    Source: `QWenModel.forward` of Qwen-VL's modeling_qwen.py. It stays what it was at the prompt while tokens are added.
    """
    return max(2 ** math.ceil(math.log2(length / seq_length) + 1) - 1, 1)
