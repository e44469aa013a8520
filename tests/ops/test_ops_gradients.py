"""Gradients against the slope of the definitions in float64."""

import numpy as np
import op_definitions
import paddle
import pytest
from numpy_ops import float64, int32, running_totals, tensor

from paddlemix_qwenvl import ops

LENGTHS = [5, 1, 0, 7]


def angles(size):
    table = np.random.default_rng(9).uniform(0, 6, size)
    return np.cos(table), np.sin(table)


COS, SIN = angles((4, 8))
TABLES = tensor(COS), tensor(SIN)


def split_definition(qkv):
    heads = qkv.reshape(4, 6, 16)
    return np.concatenate([op_definitions.rotate(heads[:, :5], COS, SIN), heads[:, 5:]], axis=1)


def attention_definition(causal):
    return lambda q, k, v: op_definitions.attention(q, k, v, LENGTHS, LENGTHS, causal, 0.25)


def attention_operation(causal):
    cu_seqlens = running_totals(LENGTHS)
    return lambda q, k, v: ops.varlen_attention(q, k, v, cu_seqlens, cu_seqlens, causal)


# name: operation, its definition, shapes of what is differentiated
CASES = {
    "rms_norm": (
        lambda x, w: ops.rms_norm(x, w, 1e-6),
        lambda x, w: op_definitions.rms_norm(x, w, 1e-6),
        [(3, 5), (5,)],
    ),
    "rms_norm of a sum": (
        lambda x, w, r: paddle.concat(ops.rms_norm(x, w, 1e-6, r)),
        lambda x, w, r: np.concatenate([op_definitions.rms_norm(x + r, w, 1e-6), x + r]),
        [(3, 5), (5,), (3, 5)],
    ),
    "layer_norm": (
        lambda x, w, b: ops.layer_norm(x, w, b, 1e-6),
        lambda x, w, b: op_definitions.layer_norm(x, w, b, 1e-6),
        [(3, 5), (5,), (5,)],
    ),
    "swiglu": (ops.swiglu, op_definitions.swiglu, [(3, 10)]),
    "rotary": (
        lambda q, k: paddle.concat(ops.encode_rotary_qk(q, k, *TABLES), axis=1),
        lambda q, k: op_definitions.rotate(np.concatenate([q, k], axis=1), COS, SIN),
        [(4, 3, 16), (4, 1, 16)],
    ),
    "split": (
        lambda qkv: paddle.concat(ops.qkv_transpose_split(qkv, *TABLES, 4, 1), axis=1),
        split_definition,
        [(4, 96)],
    ),
    "attention": (attention_operation(False), attention_definition(False), [(13, 4, 16), (13, 2, 16), (13, 2, 16)]),
    "causal": (attention_operation(True), attention_definition(True), [(13, 4, 16), (13, 2, 16), (13, 2, 16)]),
    "linear": (ops.linear, lambda x, w, b: x @ w.T + b, [(3, 7), (5, 7), (5,)]),
    "embedding": (lambda w: ops.embedding(int32([3, 0, 3]), w), lambda w: w[[3, 0, 3]], [(4, 6)]),
    "padding": (
        lambda x: ops.rebuild_padding(
            ops.transpose_remove_padding(x, paddle.to_tensor([1, 5])), paddle.to_tensor([0, 4]), 2, 3
        ),
        lambda x: np.stack(
            [np.stack([x[0, 1], 0 * x[0, 0], 0 * x[0, 0]]), np.stack([0 * x[0, 0], x[1, 2], 0 * x[0, 0]])]
        ),
        [(2, 3, 4)],
    ),
}


@pytest.mark.parametrize("operation, definition, shapes", CASES.values(), ids=CASES.keys())
def test_gradient_is_the_slope(operation, definition, shapes):
    draws = np.random.default_rng(0)
    inputs = [tensor(draws.normal(1, 1, shape)) for shape in shapes]
    for x in inputs:
        x.stop_gradient = False
    y = operation(*inputs)
    np.testing.assert_allclose(float64(y), definition(*map(float64, inputs)), atol=1e-5)
    weights = draws.normal(size=y.shape)
    (y * tensor(weights)).sum().backward()
    for i, x in enumerate(inputs):
        direction, step = draws.normal(size=x.shape), 1e-5
        ends = []
        for sign in (1, -1):
            moved = [float64(other) for other in inputs]
            moved[i] = moved[i] + sign * step * direction
            ends.append((definition(*moved) * weights).sum())
        assert (float64(x.grad) * direction).sum() == pytest.approx(
            (ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-4
        )


def test_a_weight_alone_asks_for_a_gradient():
    x, weight = tensor(np.ones((2, 3))), paddle.create_parameter([3], "float32")
    assert not ops.rms_norm(x, weight, 1e-6).stop_gradient
    with paddle.no_grad():
        assert ops.rms_norm(x, weight, 1e-6).stop_gradient
