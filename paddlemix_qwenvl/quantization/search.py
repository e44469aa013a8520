"""The search for AWQ's factors and ranges, by what a layer is given.

Source: AWQ (arXiv:2306.00978, section 3.2) and AutoAWQ (`awq/quantize/quantizer.py`): s = mean(|x|)^a, and of a grid of a the one
whose outputs are nearest; then for each group of a row the share of its range that brings the products nearest.
"""

from __future__ import annotations

import paddle
from paddle import Tensor, nn

from paddlemix_qwenvl.layers.rounding import to_int4
from paddlemix_qwenvl.quantization.folds import Fold
from paddlemix_qwenvl.quantization.methods import widened

GRID = 20
ROWS = 1024  # tokens that candidates are tried on
SHARES = [1 - 0.05 * step for step in range(11)]
_AT_ONCE = 1 << 24  # numbers of a weight that ranges are sought of


class Inputs:
    """What a layer is given, and what the layer is given whose output tells: of as many tokens as candidates are tried on.

    Args:
        every: how many calls there are for one that is kept.
    """

    def __init__(self, fold: Fold, every: int):
        self._total, self._count, self._parts = 0.0, 0, []
        self._calls, self._every, self._seen = [], every, 0
        self._hooks = [fold.layer.register_forward_pre_hook(self._note)]
        if fold.inspected is not fold.layer:
            self._hooks.append(fold.inspected.register_forward_pre_hook(self._keep))

    def _note(self, layer: nn.Layer, inputs: tuple) -> None:
        rows = inputs[0].astype("float32")
        self._total, self._count = self._total + rows.abs().sum(0), self._count + len(rows)
        self._parts.append(rows)
        if sum(map(len, self._parts)) > 4 * ROWS:
            self._parts = [self._some()]

    def _keep(self, layer: nn.Layer, inputs: tuple) -> None:
        self._calls += [inputs] if self._seen % self._every == 0 else []
        self._seen += 1

    def _some(self) -> Tensor:
        rows = paddle.concat(self._parts)
        return rows[:: -(-len(rows) // ROWS)]

    def stop(self) -> tuple[list[tuple], Tensor, Tensor]:
        """Arguments of calls, some of the rows `[T, in]`, and the mean magnitude of all `[in]`; no more are noted."""
        for hook in self._hooks:
            hook.remove()
        rows = self._some()
        return self._calls or [(rows,)], rows, self._total / self._count


def best_factors(fold: Fold, calls: list[tuple], sizes: Tensor, group_size: int) -> Tensor:
    """Of the grid, the factors with which the output is nearest to what it was.

    Args:
        calls: arguments of the inspected layer.
        sizes: float32 `[in]`, the mean magnitude of the layer's inputs.
    """
    share, weight = paddle.to_tensor(fold.share), fold.layer.weight.clone()
    count = int(fold.share.max()) + 1
    totals = paddle.zeros([count]).index_add(share, 0, sizes)
    sizes, best, least = (totals * count / len(fold.share)).clip(min=1e-4), paddle.ones([count]), float("inf")
    wanted = [fold.inspected(*each) for each in calls]
    for step in range(GRID):
        factors = sizes ** (step / GRID)
        factors = factors / (factors.max() * factors.min()).sqrt()
        columns = factors.index_select(share)
        fold.layer.weight.set_value(widened(to_int4((weight * columns).astype("float16"), group_size)) / columns)
        pairs = zip(calls, wanted, strict=True)
        error = sum(float((fold.inspected(*each) - output).square().sum()) for each, output in pairs)
        if error < least:
            best, least = factors, error
    fold.layer.weight.set_value(weight)
    return best


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
