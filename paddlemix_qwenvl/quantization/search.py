"""The search for AWQ's factors and ranges, by what a layer is given.

Source: AWQ (arXiv:2306.00978, section 3.2) and AutoAWQ (`awq/quantize/quantizer.py`): s = mean(|x|)^a, and of a grid of a the one
whose products are nearest; then for each group of a row the share of its range that brings the products nearest.
"""

from __future__ import annotations

import paddle
from paddle import Tensor

from paddlemix_qwenvl.layers.linear import Linear
from paddlemix_qwenvl.layers.rounding import to_int4
from paddlemix_qwenvl.quantization.folds import Fold
from paddlemix_qwenvl.quantization.methods import widened

GRID = 20
ROWS = 1024  # tokens that candidates are tried on
SHARES = [1 - 0.05 * step for step in range(11)]
_AT_ONCE = 1 << 24  # numbers of a weight that ranges are sought of


class Inputs:
    """What a layer is given: how large its inputs are, and some of the rows."""

    def __init__(self, layer: Linear):
        self._total, self._count, self._parts = 0.0, 0, []
        self._hook = layer.register_forward_pre_hook(self._note)

    def _note(self, layer: Linear, inputs: tuple) -> None:
        rows = inputs[0].astype("float32")
        self._total, self._count = self._total + rows.abs().sum(0), self._count + len(rows)
        self._parts.append(rows)
        if sum(map(len, self._parts)) > 4 * ROWS:
            self._parts = [self._some()]

    def _some(self) -> Tensor:
        rows = paddle.concat(self._parts)
        return rows[:: -(-len(rows) // ROWS)]

    def stop(self) -> tuple[Tensor, Tensor]:
        """Some of the rows `[T, in]`, and the mean magnitude of all `[in]`; no more are noted."""
        self._hook.remove()
        return self._some(), self._total / self._count


def best_factors(fold: Fold, x: Tensor, sizes: Tensor, group_size: int) -> Tensor:
    """Of the grid, the factors with which a layer's products are nearest to what they were.

    Args:
        x: float32 `[T, in]`.
        sizes: float32 `[in]`.
    """
    weight, share = fold.layer.weight, paddle.to_tensor(fold.share)
    count = int(fold.share.max()) + 1
    totals = paddle.zeros([count]).index_add(share, 0, sizes)
    sizes, best, least = (totals * count / len(fold.share)).clip(min=1e-4), None, float("inf")
    for step in range(GRID):
        factors = sizes ** (step / GRID)
        factors = factors / (factors.max() * factors.min()).sqrt()
        columns = factors.index_select(share)
        rounded = widened(to_int4((weight * columns).astype("float16"), group_size)) / columns
        error = float((x @ (rounded - weight).T).square().sum())
        if error < least:
            best, least = factors, error
    return paddle.ones_like(sizes) if best is None else best


def best_ranges(weight: Tensor, x: Tensor, group_size: int) -> Tensor:
    """For each group the place in SHARES of the share of its range with which the products are nearest, uint8 `[out, groups]`.

    Args:
        weight: float32 `[out, in]`, which is to be quantised.
        x: float32 `[T, in]`, what it is multiplied by.
    """
    groups = x.reshape([len(x), -1, group_size]).transpose([1, 0, 2])
    products = groups.transpose([0, 2, 1]) @ groups  # [groups, g, g]
    step = max(1, _AT_ONCE // weight.shape[1])
    blocks = [weight[start : start + step] for start in range(0, len(weight), step)]
    return paddle.concat([_best_ranges(rows, products, group_size) for rows in blocks])


def _best_ranges(weight: Tensor, products: Tensor, group_size: int) -> Tensor:
    outputs, groups = len(weight), len(products)
    errors = []
    for share in SHARES:
        kept = paddle.full([outputs, groups], share)
        lost = widened(to_int4(weight.astype("float16"), group_size, kept)) - weight
        lost = lost.reshape([outputs, groups, group_size]).transpose([1, 0, 2])
        errors.append(((lost @ products) * lost).sum(-1).T)
    return paddle.stack(errors).argmin(0).astype("uint8")
