"""What an fp8 weight is made of."""

from __future__ import annotations

from typing import NamedTuple

from paddle import Tensor


class Fp8Weight(NamedTuple):
    """A weight [out, in] in float8 e4m3 (arXiv:2209.05433), which `linear_fp8` multiplies by: value * scale.

    Attributes:
        values: uint8 [out, in], the numbers' bits: a sign, 4 of the exponent with a bias of 7, 3 of the fraction; no infinities.
        scale: float16, bfloat16 or float32: [1] for the whole weight, [out] for each row, or a matrix with one for each block.
        block: rows and columns of a block; the last ones may be smaller.
    """

    values: Tensor
    scale: Tensor
    block: tuple[int, int] = (128, 128)
