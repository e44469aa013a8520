"""The search for AWQ's factors, by what a layer is given.

Source: AWQ (arXiv:2306.00978, section 3.2) and AutoAWQ (`awq/quantize/quantizer.py`): s = mean(|x|)^a, and of a grid of a the one
whose outputs are nearest.
"""

from __future__ import annotations

import paddle
from paddle import Tensor, nn

from paddlemix_qwenvl.layers.rounding import to_int4
from paddlemix_qwenvl.quantization.folds import Fold
from paddlemix_qwenvl.quantization.methods import widened

GRID = 20
ROWS = 1024  # tokens that candidates are tried on
COLUMNS = 1024  # inputs whose products with each other are kept


class Inputs:
    """What a layer is given, and some of what the layer is given whose output tells.

    Args:
        every: how many calls there are for one that is kept.

    Attributes:
        products: stretches of COLUMNS inputs, and the sum of x x^T of each, float32.
    """

    def __init__(self, fold: Fold, every: int):
        width = fold.layer.weight.shape[1]
        self._total, self._count, self._rows = 0.0, 0, []
        self._calls, self._every, self._seen = [], every, 0
        self.products = [(slice(start, min(start + COLUMNS, width)), 0.0) for start in range(0, width, COLUMNS)]
        self._hooks = [fold.layer.register_forward_pre_hook(self._note)]
        if fold.inspected is not fold.layer:
            self._hooks.append(fold.inspected.register_forward_pre_hook(self._keep))

    def _note(self, layer: nn.Layer, inputs: tuple) -> None:
        rows = inputs[0].astype("float32")
        self._total, self._count = self._total + rows.abs().sum(0), self._count + len(rows)
        self.products = [(part, known + rows[:, part].T @ rows[:, part]) for part, known in self.products]
        self._rows.append(rows)
        if sum(map(len, self._rows)) > 4 * ROWS:
            self._rows = [self._some()]

    def _keep(self, layer: nn.Layer, inputs: tuple) -> None:
        self._calls += [inputs] if self._seen % self._every == 0 else []
        self._seen += 1

    def _some(self) -> Tensor:
        rows = paddle.concat(self._rows)
        return rows[:: -(-len(rows) // ROWS)]

    def stop(self) -> None:
        """No more are noted."""
        for hook in self._hooks:
            hook.remove()

    def calls(self) -> list[tuple]:
        """Arguments of the layer whose output tells."""
        return self._calls or [(self._some(),)]

    def sizes(self) -> Tensor:
        """The mean magnitude of the inputs `[in]`."""
        return self._total / self._count


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
