"""Rotary embedding, splitting packed qkv, and the KV cache."""

import numpy as np
import paddle
import pytest
from numpy_ops import TOLERANCE, close, float64, int32, tensor
from op_definitions import rotate

HEADS, KV_HEADS, TOKENS, BLOCKS = 6, 2, 7, 5


@pytest.fixture(params=[2, 24, 64, 80, 128])
def head_dim(request):
    return request.param


@pytest.fixture
def tables(head_dim):
    draws = np.random.default_rng(1)
    angles = draws.uniform(0, 100, (TOKENS, head_dim // 2))
    return tensor(np.cos(angles)), tensor(np.sin(angles))


def packed(head_dim, dtype):
    return tensor(np.random.default_rng(2).normal(size=(TOKENS, (HEADS + 2 * KV_HEADS) * head_dim)), dtype)


def split(qkv, tables, head_dim):
    """The three parts in float64, q and k rotated."""
    heads = float64(qkv).reshape(len(qkv), -1, head_dim)
    cos, sin = map(float64, tables)
    q, k, v = np.split(heads, [HEADS, HEADS + KV_HEADS], axis=1)
    return rotate(q, cos, sin), rotate(k, cos, sin), v


@pytest.mark.parametrize("tokens", [0, 1, 9, 700])
def test_mrope_tables_take_each_section_from_its_row(way, tokens):
    positions = paddle.to_tensor(np.random.default_rng(0).integers(0, 130000, (3, tokens)))
    frequencies = tensor(1e6 ** -(np.arange(40) / 40))
    cos, sin = way.mrope_tables(positions, frequencies, [8, 12, 20])
    rows = np.repeat([0, 1, 2], [8, 12, 20])
    angles = (positions.numpy()[rows].T.astype(np.float32) * frequencies.numpy()).astype(np.float64)
    np.testing.assert_allclose(float64(cos), np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(float64(sin), np.sin(angles), atol=1e-6)
    for one_row in (positions[0], frequencies), (positions[:1], frequencies.unsqueeze(0), [40]):
        plain, _ = way.mrope_tables(*one_row)
        assert np.array_equal(float64(plain)[:, :8], float64(cos)[:, :8])


def test_mrope_tables_of_frequencies_for_each_token(way):
    draws = np.random.default_rng(0)
    positions = paddle.to_tensor(draws.integers(0, 5000, (1, 9)).astype(np.int32))
    frequencies = draws.uniform(0, 1, (9, 5)).astype(np.float32)
    angles = (positions.numpy().T.astype(np.float32) * frequencies).astype(np.float64)
    cos, sin = way.mrope_tables(positions, tensor(frequencies), [5])
    np.testing.assert_allclose(float64(cos), np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(float64(sin), np.sin(angles), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_encode_rotary_qk(way, head_dim, tables, dtype):
    draws = np.random.default_rng(0)
    q = tensor(draws.normal(size=(TOKENS, HEADS, head_dim)), dtype)
    k = tensor(draws.normal(size=(TOKENS, KV_HEADS, head_dim)), dtype)
    cos, sin = map(float64, tables)
    for found, x in zip(way.encode_rotary_qk(q, k, *tables), (q, k), strict=True):
        close(found, rotate(float64(x), cos, sin), dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_qkv_transpose_split(way, head_dim, tables, dtype):
    qkv = packed(head_dim, dtype)
    found = way.qkv_transpose_split(qkv, *tables, HEADS, KV_HEADS)
    for part, wanted in zip(found, split(qkv, tables, head_dim), strict=True):
        close(part, wanted, dtype)


@pytest.fixture(params=[1, 4, 11])
def block_size(request):
    return request.param


def caches(head_dim, dtype, block_size):
    draws = np.random.default_rng(3)
    return [tensor(draws.normal(size=(BLOCKS, KV_HEADS, block_size, head_dim)), dtype) for _ in range(2)]


def places(block_size):
    """Slots of the tokens, the last one there is among them, as far as there are so many."""
    count = min(TOKENS, BLOCKS * block_size)
    return (BLOCKS * block_size - 1 - 2 * np.arange(count)) % (BLOCKS * block_size)


def written(cache, values, slots):
    wanted, block_size = float64(cache), cache.shape[2]
    for slot, value in zip(slots, values, strict=True):
        wanted[slot // block_size, :, slot % block_size] = value
    return wanted


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_qkv_write_cache(way, head_dim, tables, block_size, dtype):
    k_cache, v_cache = caches(head_dim, dtype, block_size)
    slots = places(block_size)
    qkv, cos, sin = (x[: len(slots)] for x in (packed(head_dim, "float32"), *tables))
    q, k, v = split(qkv, (cos, sin), head_dim)
    wanted = written(k_cache, k, slots), written(v_cache, v, slots)
    found = way.qkv_write_cache(qkv, cos, sin, k_cache, v_cache, int32(slots), HEADS)
    close(found[0], q)
    for cache, given, numbers in zip(found[1:], (k_cache, v_cache), wanted, strict=True):
        close(cache, numbers, dtype)
        assert cache.data_ptr() == given.data_ptr(), "written in place"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_write_cache_kv(way, block_size, dtype):
    draws, slots = np.random.default_rng(0), places(block_size)
    k, v = (tensor(draws.normal(size=(len(slots), KV_HEADS, 20))) for _ in range(2))
    k_cache, v_cache = caches(20, dtype, block_size)
    wanted = written(k_cache, float64(k), slots), written(v_cache, float64(v), slots)
    way.write_cache_kv(k, v, k_cache, v_cache, int32(slots))
    np.testing.assert_allclose(float64(k_cache), wanted[0], atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    np.testing.assert_allclose(float64(v_cache), wanted[1], atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_narrow_caches_round_to_nearest(way):
    values = np.random.default_rng(0).normal(size=4000) * 10.0 ** np.random.default_rng(1).integers(-8, 4, 4000)
    k = tensor(values.reshape(1, 1, 4000))
    for dtype in ("bfloat16", "float16"):
        cache, other = (tensor(np.zeros((1, 1, 1, 4000)), dtype) for _ in range(2))
        way.write_cache_kv(k, k, cache, other, int32([0]))
        assert float64(cache).ravel().tolist() == float64(k.astype(dtype)).ravel().tolist()


def test_no_tokens(way):
    k_cache, v_cache = caches(16, "float32", 4)
    before = float64(k_cache)
    none = tensor(np.zeros((0, KV_HEADS, 16)))
    way.write_cache_kv(none, none, k_cache, v_cache, int32([]))
    assert (float64(k_cache) == before).all()
