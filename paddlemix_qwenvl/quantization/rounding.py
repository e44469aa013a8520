"""Rounding to 4 bits by what a weight is multiplied by: how much of a range is kept, and which way each number goes.

Sources: AutoAWQ (`awq/quantize/quantizer.py`, the search for clipped ranges); GPTQ (arXiv:2210.17323, section 3): what a column
loses is made up for by those after it, as far as their inputs go together.
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle import Tensor

from paddlemix_qwenvl.layers.rounding import to_int4
from paddlemix_qwenvl.quantization.methods import widened

SHARES = [1 - 0.05 * step for step in range(11)]
_AT_ONCE = 1 << 24  # numbers of a weight that ranges are sought of
_DAMPING = 0.01

Products = list[tuple[slice, Tensor]]


def rounded(weight: Tensor, products: Products, group_size: int) -> dict[str, Tensor]:
    """The tensors of `to_int4` with which the products are nearest.

    Args:
        weight: float32 `[out, in]`, whose scales are to be float16.
        products: as in `search.Inputs`, of what it is multiplied by.
    """
    groups = paddle.concat([_diagonal(product, group_size) for _, product in products])
    step = max(1, _AT_ONCE // weight.shape[1])
    kept = [best_shares(weight[start : start + step], groups) for start in range(0, len(weight), step)]
    found = to_int4(weight.astype("float16"), group_size, paddle.concat(kept))
    return {**found, "weight": _numbers(weight, found, products, group_size)}


def best_shares(weight: Tensor, products: Tensor) -> Tensor:
    """For each group the one of SHARES of its range with which the products are nearest, `[out, groups]`.

    Args:
        products: `[groups, g, g]`, of the inputs of a group with each other.
    """
    (outputs, _), (groups, group_size, _) = weight.shape, products.shape
    errors = []
    for share in SHARES:
        kept = paddle.full([outputs, groups], share)
        lost = widened(to_int4(weight.astype("float16"), group_size, kept)) - weight
        lost = lost.reshape([outputs, groups, group_size]).transpose([1, 0, 2])
        errors.append(((lost @ products) * lost).sum(-1).T)
    return paddle.to_tensor(SHARES).index_select(paddle.stack(errors).argmin(0).flatten()).reshape([outputs, groups])


def _diagonal(product: Tensor, size: int) -> Tensor:
    return paddle.stack([product[at : at + size, at : at + size] for at in range(0, len(product), size)])


def _numbers(weight: Tensor, found: dict[str, Tensor], products: Products, size: int) -> Tensor:
    """`weight` of `to_int4`, column by column; what each loses is taken off those after it in its stretch."""
    steps, zeros = (found[name].astype("float32") for name in ("scale", "zeros"))
    steps, numbers = paddle.where(steps > 0, steps, paddle.ones_like(steps)), []
    for part, product in products:
        upper, left = _upper(product), weight[:, part]
        for at in range(0, len(product), size):
            group = (part.start + at) // size
            step, zero, columns, errors = steps[:, group], zeros[:, group], left[:, :size], []
            for column in range(size):
                row, exact = upper[at + column, at : at + size], columns[:, column]
                numbers.append(((exact / step).round() + zero).clip(0, 15))
                errors.append((exact - (numbers[-1] - zero) * step) / row[column])
                columns = columns - errors[-1].unsqueeze(-1) * row
            if at + size < len(product):
                left = left[:, size:] - paddle.stack(errors, 1) @ upper[at : at + size, at + size :]
    numbers = paddle.stack(numbers, 1)
    return (numbers[:, ::2] + numbers[:, 1::2] * 16).astype("uint8")


def _upper(product: Tensor) -> Tensor:
    """The upper Cholesky factor of the inverse, float32 of float64."""
    exact = product.numpy().astype(np.float64)
    exact[np.diag_indices_from(exact)] += _DAMPING * max(np.diag(exact).mean(), 1e-6)
    return paddle.to_tensor(np.linalg.cholesky(np.linalg.inv(exact)).T.astype(np.float32))
