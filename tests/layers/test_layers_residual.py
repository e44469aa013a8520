"""The residual stream: what it adds up to, and that it holds nothing of earlier blocks, nor ends at float16's largest."""

import weakref

import numpy as np
import paddle
import pytest
from gpu_stand_in import card

from paddlemix_qwenvl.layers.norm import LayerNorm, RMSNorm
from paddlemix_qwenvl.layers.residual import ResidualStream


def test_two_blocks_are_the_sums_of_their_parts():
    draws = np.random.default_rng(0)
    x, first, second = (draws.standard_normal((5, 64)).astype(np.float32) for _ in range(3))
    for norm in (RMSNorm(64, 1e-6), LayerNorm(64, 1e-6)):
        stream = ResidualStream(paddle.to_tensor(x))
        assert np.array_equal(stream.total().numpy(), x)
        for part, total in ((first, x), (second, x + first)):
            assert np.abs((stream.normalised(norm) - norm(paddle.to_tensor(total))).numpy()).max() < 1e-5
            stream.x = paddle.to_tensor(part)
        assert np.abs(stream.total().numpy() - (x + first + second)).max() < 1e-6


def test_a_block_holds_no_tensor_that_a_norm_has_taken_up():
    stream, norm, taken = ResidualStream(paddle.ones([4, 64])), RMSNorm(64, 1e-6), []

    def block(stream):
        y = stream.normalised(norm)
        held = [tensor() for tensor in taken]
        stream.x = y + 1
        return held

    block(stream)
    taken += [weakref.ref(stream.x), weakref.ref(stream.residual)]
    assert block(stream) == [None, None]


@pytest.mark.parametrize("norm_class", [RMSNorm, LayerNorm])
@pytest.mark.parametrize("dtype, size", [("float32", 1.0), ("bfloat16", 40000.0), ("float16", 40000.0)])
def test_sums_over_float16s_largest_number(norm_class, dtype, size):
    parts = [size * np.random.default_rng(seed).uniform(0.5, 1, (3, 64)).astype(np.float32) for seed in range(4)]
    norm = norm_class(64, 1e-6)
    found = []
    with card((7, 5)), paddle.no_grad():
        first, *others = [paddle.to_tensor(part).astype(dtype) for part in parts]
        stream = ResidualStream(first)
        for part in others:
            found.append(stream.normalised(norm))
            stream.x = part
        found.append(stream.normalised(norm))
    for count, y in enumerate(found, 1):
        wanted = norm(paddle.to_tensor(np.sum(parts[:count], 0))).numpy()
        assert y.dtype == first.dtype
        np.testing.assert_allclose(
            y.astype("float32").numpy(), wanted, atol={"float32": 1e-5, "float16": 4e-3}.get(dtype, 0.1)
        )


def test_the_total_beside_float16_is_float32():
    with card((7, 0)):
        stream = ResidualStream(paddle.full([2, 64], 40000.0, "float16"))
        stream.normalised(RMSNorm(64, 1e-6))
        stream.x = paddle.full([2, 64], 30000.0, "float16")
        assert stream.total().dtype == paddle.float32 and stream.total().tolist() == [[70000.0] * 64] * 2
