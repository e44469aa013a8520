"""The residual stream: what it adds up to, and that it holds nothing of earlier blocks."""

import weakref

import numpy as np
import paddle

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
