"""Gradients against the slope of the definitions in float64."""

import numpy as np
import op_definitions
import paddle
import pytest
from numpy_ops import float64, int32, running_totals, tensor

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.ops import definitions

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


def many(*lengths):
    return running_totals(lengths)


ANGLES = np.random.default_rng(1).uniform(0, 6, (100, 12))
LONG_TABLES = tensor(np.cos(ANGLES)), tensor(np.sin(ANGLES))
# operation, what it is given beside tensors of these shapes: more rows, columns and keys than fit one panel of the kernels
LARGE = {
    "rms_norm": (lambda op, x, w, r: op(x, w, 1e-6, r), [(70, 100), (100,), (70, 100)]),
    "layer_norm": (lambda op, x, w, b, r: op(x, w, b, 1e-6, r), [(70, 100), (100,), (100,), (70, 100)]),
    "swiglu": (lambda op, x: op(x), [(70, 170)]),
    "qkv_transpose_split": (lambda op, qkv: op(qkv, *LONG_TABLES, 4, 2), [(100, 192)]),
    "linear": (lambda op, x, w, b: op(x, w, b), [(70, 20), (41, 20), (41,)]),
    "varlen_attention": (
        lambda op, q, k, v: op(q, k, v, many(64, 1, 0, 35), many(64, 1, 0, 35)),
        [(100, 4, 24), (100, 4, 24), (100, 4, 24)],
    ),
    "varlen_attention, causal, fewer keys": (
        lambda op, q, k, v: op(q, k, v, many(70, 3, 27), many(60, 3, 47), True),
        [(100, 6, 80), (110, 2, 80), (110, 2, 80)],
    ),
}


@pytest.mark.parametrize("call, shapes", LARGE.values(), ids=LARGE.keys())
def test_compiled_gradients_are_the_plain_ones(call, shapes, request):
    name = request.node.callspec.id.partition(",")[0]
    draws = np.random.default_rng(2)
    values = [draws.normal(size=shape) for shape in shapes]
    found = []
    for operation in (getattr(ops, name), getattr(definitions, name)):
        inputs = [tensor(value) for value in values]
        for x in inputs:
            x.stop_gradient = False
        outputs = call(operation, *inputs)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        weights = np.random.default_rng(3)
        sum((y * tensor(weights.normal(size=y.shape))).sum() for y in outputs).backward()
        found.append([float64(x.grad) for x in inputs])
    for compiled, plain in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-4)


def test_an_output_that_nothing_depends_on_has_no_gradient():
    x, weight, residual = (tensor(np.ones(shape)) for shape in [(2, 3), (3,), (2, 3)])
    x.stop_gradient = residual.stop_gradient = False
    _, total = ops.rms_norm(x, weight, 1e-6, residual)
    total.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.ones((2, 3)))
    q, _, _ = ops.qkv_transpose_split(qkv := tensor(np.ones((4, 96))), *TABLES, 4, 1)
    assert q.stop_gradient
    qkv.stop_gradient = False
    ops.qkv_transpose_split(qkv, *TABLES, 4, 1)[2].sum().backward()
    np.testing.assert_array_equal(qkv.grad.numpy()[:, 80:], np.ones((4, 16)))
    assert not qkv.grad.numpy()[:, :80].any()
