"""Activations."""

from __future__ import annotations

import paddle.nn.functional as F
from paddle import Tensor

from ..cast import to_float32


def swiglu(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up` (Shazeer 2020) of both in one tensor.

    Args:
        gate_up: [..., 2 I], the gate in the first half.

    Returns:
        [..., I].
    """
    gate, up = to_float32(gate_up).chunk(2, axis=-1)
    return (F.silu(gate) * up).astype(gate_up.dtype)
