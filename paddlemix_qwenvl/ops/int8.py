"""What an int8 weight is made of."""

from __future__ import annotations

from typing import NamedTuple

from paddle import Tensor


class Int8Weight(NamedTuple):
    """A weight that `quantize_int8` made and `linear_int8` multiplies by.

    Attributes:
        values: int8 [out, in].
        scale: [out], what a step of each row is worth: float32, or in the activations' dtype where the values are arranged.
        arranged: the values lie in the order of bytes that Paddle's GPU kernel wants on the card they were made on, and `in` is
            filled up to a multiple of 64; otherwise they lie row by row.
    """

    values: Tensor
    scale: Tensor
    arranged: bool = False
