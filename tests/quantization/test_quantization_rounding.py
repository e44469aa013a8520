"""Weights of 4 bits that lose little of their products."""

import numpy as np
import paddle
import pytest

from paddlemix_qwenvl.layers.rounding import to_int4
from paddlemix_qwenvl.quantization.methods import widened
from paddlemix_qwenvl.quantization.rounding import SHARES, best_shares, rounded


def drawn(sizes) -> tuple[paddle.Tensor, paddle.Tensor]:
    """A weight `[24, 64]` and what it is multiplied by, whose inputs are of these sizes."""
    draws = np.random.default_rng(0)
    weight, x = draws.standard_normal([24, 64]), draws.standard_normal([200, 64]) @ draws.standard_normal([64, 64])
    weight[5, 40], weight[7, 3] = 9, -8  # which widen the steps of all their groups
    return paddle.to_tensor(weight.astype("float32")), paddle.to_tensor((x * sizes).astype("float32"))


def test_the_share_of_each_range_that_brings_its_products_nearest():
    weight, x = drawn(np.where(np.isin(np.arange(64), (3, 40)), 0.01, 1))
    groups = paddle.stack([x[:, part].T @ x[:, part] for part in (slice(0, 32), slice(32, 64))])
    shares = best_shares(weight, groups)
    assert shares.shape == [24, 2] and shares[5, 1] < 0.9 and shares.mean() > 0.8

    def error(kept) -> np.ndarray:
        lost = widened(to_int4(weight.astype("float16"), 32, kept)) - weight
        groups = [(x[:, part] @ lost[:, part].T).square().sum(0) for part in (slice(0, 32), slice(32, 64))]
        return paddle.stack(groups, axis=-1).numpy()

    for share in SHARES:
        assert (error(shares) <= error(paddle.full([24, 2], share)) * (1 + 1e-3)).all()


@pytest.mark.parametrize("stretches", [[slice(0, 64)], [slice(0, 32), slice(32, 64)]])
def test_what_a_column_loses_is_made_up_for(stretches):
    weight, x = drawn(1)
    products = [(part, x[:, part].T @ x[:, part]) for part in stretches]
    found, plain = rounded(weight, products, 32), to_int4(weight.astype("float16"), 32)
    assert {name: (x.shape, x.dtype) for name, x in found.items()} == {n: (x.shape, x.dtype) for n, x in plain.items()}
    errors = [float((x @ (widened(made) - weight).T).square().sum()) for made in (found, plain)]
    assert errors[0] < (0.6 if len(stretches) == 1 else 0.8) * errors[1]


def test_inputs_that_have_nothing_to_do_with_each_other():
    """Each number goes to its nearest step, and a column that is never used harms none."""
    weight, _ = drawn(1)
    size = paddle.to_tensor(np.where(np.arange(64) == 9, 0, 1).astype("float32"))
    found = rounded(weight, [(slice(0, 64), paddle.diag(size))], 32)
    numbers = np.stack([found["weight"].numpy() & 15, found["weight"].numpy() >> 4], -1).reshape(24, 64)
    inside = (numbers > 0) & (numbers < 15)
    steps = np.repeat(found["scale"].astype("float32").numpy(), 32, axis=1)
    assert (np.abs(widened(found).numpy() - weight.numpy()) <= 0.501 * steps)[inside].all() and inside.mean() > 0.8
