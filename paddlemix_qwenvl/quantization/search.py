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


class Trial:
    """How far a layer's output, or that of the layer it begins, is from what it was when its weight is another one.

    Args:
        calls: arguments of the inspected layer.
    """

    def __init__(self, fold: Fold, calls: list[tuple]):
        self.fold, self.weight = fold, fold.layer.weight.clone()
        self._pairs = [(each, fold.inspected(*each)) for each in calls]

    def error(self, weight: Tensor) -> float:
        """The sum of squares."""
        self.fold.layer.weight.set_value(weight)
        found = sum(float((self.fold.inspected(*each) - wanted).square().sum()) for each, wanted in self._pairs)
        self.fold.layer.weight.set_value(self.weight)
        return found


def best_factors(trial: Trial, sizes: Tensor, group_size: int) -> Tensor:
    """Of the grid, the factors with which the output is nearest to what it was, all rounded to the nearest.

    Args:
        sizes: float32 `[in]`, the mean magnitude of the layer's inputs.
    """
    share = paddle.to_tensor(trial.fold.share)
    count = int(trial.fold.share.max()) + 1
    totals = paddle.zeros([count]).index_add(share, 0, sizes)
    sizes, best, least = (totals * count / len(share)).clip(min=1e-4), paddle.ones([count]), float("inf")
    for step in range(GRID):
        factors = sizes ** (step / GRID)
        factors = factors / (factors.max() * factors.min()).sqrt()
        columns = factors.index_select(share)
        nearest = to_int4((trial.weight * columns).astype("float16"), group_size)
        if (error := trial.error(widened(nearest) / columns)) < least:
            best, least = factors, error
    return best
