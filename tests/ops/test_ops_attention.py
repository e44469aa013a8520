"""Attention of packed sequences and against the KV cache, compared with loops in float64."""

import numpy as np
import pytest
from numpy_ops import close, float64, int32, running_totals, tensor
from op_definitions import attention, rotate

from paddlemix_qwenvl import ops

HEADS = [(4, 4), (6, 2), (7, 1)]
LENGTHS = {
    "one token": ([1], [1]),
    "odd, with an empty row": ([5, 0, 17, 3], [5, 0, 17, 3]),
    "equal windows": ([16] * 5, [16] * 5),
    "more keys": ([4, 1, 30], [9, 40, 31]),
    "more queries": ([9, 3], [4, 0]),
    "longer than a block": ([300], [310]),
}


def draw(shape, dtype="float32", seed=0):
    return tensor(np.random.default_rng(seed).normal(size=shape), dtype)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("head_dim", [20, 64, 80, 128])
def test_varlen_attention(way, lengths, head_dim, causal):
    heads, kv_heads = HEADS[head_dim % 3]
    q = draw((sum(lengths[0]), heads, head_dim))
    k, v = (draw((sum(lengths[1]), kv_heads, head_dim), seed=seed) for seed in (1, 2))
    found = way.varlen_attention(q, k, v, *map(running_totals, lengths), causal)
    close(found, attention(*map(float64, (q, k, v)), *lengths, causal, head_dim**-0.5))


def test_varlen_attention_in_bfloat16_with_a_scale(way):
    q, k, v = (draw((23, 4, 64), "bfloat16", seed) for seed in range(3))
    lengths = [9, 14]
    found = way.varlen_attention(q, k, v, running_totals(lengths), running_totals(lengths), scale=0.3)
    close(found, attention(*map(float64, (q, k, v)), lengths, lengths, False, 0.3), "bfloat16")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("head_dim", [20, 64, 80, 128])
def test_qkv_attention(way, head_dim, causal, dtype):
    (heads, kv_heads), lengths = HEADS[head_dim % 3], [5, 0, 1, 300, 33]
    qkv, angles = draw((sum(lengths), (heads + 2 * kv_heads) * head_dim), dtype), draw((sum(lengths), head_dim // 2))
    cos, sin = angles.cos(), angles.sin()
    found = way.qkv_attention(qkv, cos, sin, running_totals(lengths), heads, kv_heads, causal)
    q, k, v = np.split(float64(qkv).reshape(len(qkv), -1, head_dim), [heads, heads + kv_heads], axis=1)
    q, k = (rotate(x, float64(cos), float64(sin)) for x in (q, k))
    close(found, attention(q, k, v, lengths, lengths, causal, head_dim**-0.5), dtype)


def test_qkv_attention_trains():
    """By the operations it is made of."""
    qkv, tables, cu = draw((9, 4 * 16)), [draw((9, 8)).cos(), draw((9, 8)).sin()], running_totals([4, 5])
    qkv.stop_gradient = False
    ops.qkv_attention(qkv, *tables, cu, 2, 1).square().sum().backward()
    found = qkv.grad.numpy()
    qkv.clear_gradient()
    q, k, v = ops.qkv_transpose_split(qkv, *tables, 2, 1)
    ops.varlen_attention(q, k, v, cu, cu).square().sum().backward()
    assert np.abs(found).max() > 0
    np.testing.assert_allclose(found, qkv.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_scores_far_apart(way):
    q, k = draw((40, 2, 64)) * 30, draw((40, 2, 64), seed=1) * 30
    v = draw((40, 2, 64), seed=2)
    found = way.varlen_attention(q, k, v, running_totals([40]), running_totals([40]), True)
    wanted = attention(*map(float64, (q, k, v)), [40], [40], True, 1 / 8)
    np.testing.assert_allclose(float64(found), wanted, atol=2e-3)


def test_no_queries(way):
    q = tensor(np.zeros((0, 2, 16)))
    assert way.varlen_attention(q, q, q, int32([0, 0]), int32([0, 0])).shape == [0, 2, 16]


def filled(cache, lengths):
    """The filled slots of cache [B, Hkv, S, D] as packed tokens [sum, Hkv, D]."""
    return np.concatenate([cache[row, :, :length].transpose(1, 0, 2) for row, length in enumerate(lengths)])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("head_dim", [20, 64, 80, 128])
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_decode_attention(way, heads, head_dim, dtype):
    lengths = [1, 150, 0, 37]
    q = draw((4, heads[0], head_dim))
    k_cache, v_cache = (draw((4, heads[1], 151, head_dim), dtype, seed) for seed in (1, 2))
    wanted = attention(
        float64(q),
        *(filled(float64(cache), lengths) for cache in (k_cache, v_cache)),
        [1] * 4,
        lengths,
        False,
        head_dim**-0.5,
    )
    close(way.decode_attention(q, k_cache, v_cache, int32(lengths)), wanted)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("new", [[3, 20, 0, 7], [1, 1, 1, 1]], ids=["prompts", "one each"])
def test_cached_attention(way, new, dtype):
    lengths = [3, 150, 6, 37]
    q = draw((sum(new), 6, 80))
    k_cache, v_cache = (draw((4, 2, 151, 80), dtype, seed) for seed in (1, 2))
    wanted = attention(
        float64(q), *(filled(float64(cache), lengths) for cache in (k_cache, v_cache)), new, lengths, True, 80**-0.5
    )
    close(way.cached_attention(q, k_cache, v_cache, running_totals(new), int32(lengths)), wanted)


def test_slots_past_the_length_may_hold_anything(way):
    q, cache = draw((2, 4, 64)), draw((2, 2, 9, 64), seed=1)
    spoilt = cache.clone()
    spoilt[:, :, 5:] = 1e30
    lengths = int32([5, 3])
    wanted = float64(way.decode_attention(q, cache, cache, lengths))
    np.testing.assert_allclose(float64(way.decode_attention(q, spoilt, spoilt, lengths)), wanted, atol=1e-6)
