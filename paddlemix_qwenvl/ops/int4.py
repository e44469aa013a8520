"""What an int4 weight is made of."""

from __future__ import annotations

from typing import NamedTuple

from paddle import Tensor

from ..errors import ConfigurationError

MIDDLE = 8
"""The zero of a weight that has no zeros of its own."""

_GROUPS_OF = 32  # what every group size is a multiple of


class Int4Weight(NamedTuple):
    """A weight [out, in] in groups of inputs, which `linear_int4` multiplies by: (q - zero) * scale, q from 0 to 15.

    Attributes:
        values: uint8 [out, in / 2], two q of neighbouring inputs a byte, the lower four bits first.
        scale: float16, bfloat16 or float32 [out, in / group_size].
        zeros: uint8 [out, in / group_size] from 0 to 15, or None where all are 8.
        order: int32 [in], which number of x input i of `values` takes; None where they are in x's order.
    """

    values: Tensor
    scale: Tensor
    zeros: Tensor | None = None
    order: Tensor | None = None

    @property
    def group_size(self) -> int:
        """Inputs that share a scale."""
        return 2 * self.values.shape[1] // self.scale.shape[1]


def int4_group_size(inputs: int, group_size: int) -> int:
    """The inputs a group has in a weight of `inputs`.

    Args:
        group_size: as configurations say it; -1 for whole rows.

    Raises:
        ConfigurationError: there are no products with such groups.
    """
    size = inputs if group_size == -1 else group_size
    if size < _GROUPS_OF or size % _GROUPS_OF or inputs % size:
        raise ConfigurationError(
            f"int4 groups of {size} inputs in a weight of {inputs} inputs; "
            f"the group size must divide the inputs and be a multiple of {_GROUPS_OF}: choose another, or another format"
        )
    return size
