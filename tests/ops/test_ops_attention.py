"""Attention of packed sequences and against the KV cache, compared with loops in float64."""

import numpy as np
import paddle
import pytest
from numpy_ops import close, float64, int32, running_totals, tensor
from op_definitions import attention, rotate
from paged import Paged
from ways import PLAIN_ONLY, Way

from paddlemix_qwenvl import ops

HEADS = [(4, 4), (6, 2), (7, 1)]
BLOCK_SIZES = [1, 16, 48, 64, 120]
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


def rounding_of_attention(q, k, wanted):
    """What rounding queries and weights to bfloat16 may come to; `wanted` is of the values' magnitudes. A query's changes a
    score, which is in the exponents of a weight and of their sum; a weight's counts by itself. Keys and values are as much again.
    """
    largest = np.abs(k).max(0).max(0) if len(k) else np.zeros(q.shape[-1])
    scores = (np.abs(q) @ largest)[..., None] * q.shape[-1] ** -0.5
    return 1e-5 + 2**-9 * (2 + 2 * scores) * wanted


def test_varlen_attention_in_bfloat16_with_a_scale(way):
    q, k, v = (draw((23, 4, 64), "bfloat16", seed) for seed in range(3))
    lengths = [9, 14]
    found = way.varlen_attention(q, k, v, running_totals(lengths), running_totals(lengths), scale=0.3)
    close(found, attention(*map(float64, (q, k, v)), lengths, lengths, False, 0.3), "bfloat16")


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("head_dim", [20, 64, 80, 128])
def test_qkv_attention(way, head_dim, causal, dtype, narrow):
    (heads, kv_heads), lengths = HEADS[head_dim % 3], [5, 0, 1, 300, 33]
    qkv, angles = draw((sum(lengths), (heads + 2 * kv_heads) * head_dim), dtype), draw((sum(lengths), head_dim // 2))
    cos, sin = angles.cos(), angles.sin()
    found = way.qkv_attention(qkv, cos, sin, running_totals(lengths), heads, kv_heads, causal, narrow)
    q, k, v = np.split(float64(qkv).reshape(len(qkv), -1, head_dim), [heads, heads + kv_heads], axis=1)
    q, k = (rotate(x, float64(cos), float64(sin)) for x in (q, k))
    wanted = attention(q, k, v, lengths, lengths, causal, head_dim**-0.5)
    if narrow and way.product("bfloat16", 512) == "bfloat16":
        bound = rounding_of_attention(q, k, wanted=attention(q, k, np.abs(v), lengths, lengths, causal, head_dim**-0.5))
        slack = 1e-5 if dtype == "float32" else 2**-8 * np.abs(wanted)
        assert (np.abs(float64(found) - wanted) <= 2 * bound + slack).all()
    else:
        close(found, wanted, dtype)


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


class Cached:
    """Queries against a paged cache, and what is wanted of them."""

    def __init__(self, new, lengths, heads, head_dim, block_size, dtype="float32", **paged):
        self.rows, self.new = Paged(lengths, heads[1], head_dim, block_size, **paged), new
        self.q = draw((sum(new), heads[0], head_dim))
        self.k, self.v = (tensor(cache, dtype) for cache in (self.rows.k, self.rows.v))
        self.block_tables, self.lengths = int32(self.rows.block_tables), int32(lengths)

    def decode(self, way):
        return way.decode_attention(self.q, self.k, self.v, self.block_tables, self.lengths)

    def attend(self, way, rows=slice(None)):
        """Of some rows."""
        ends = np.cumsum(self.new)[rows]
        new = self.new[rows]
        q = paddle.concat([self.q[end - count : end] for end, count in zip(ends, new, strict=True)])
        return way.cached_attention(q, self.k, self.v, running_totals(new), self.block_tables[rows], self.lengths[rows])

    def wanted(self, values=lambda v: v):
        """With `values` of the values."""
        k, v = (self.rows.tokens(float64(cache)) for cache in (self.k, self.v))
        scale = self.q.shape[-1] ** -0.5
        return attention(float64(self.q), k, values(v), self.new, self.rows.lengths, True, scale)

    def bound(self, way):
        """What rounding may come to."""
        if self.k.dtype != paddle.bfloat16 or way.product("bfloat16", 512) != "bfloat16":
            return 1e-5 * (1 + np.abs(self.wanted()))
        return rounding_of_attention(float64(self.q), self.rows.tokens(float64(self.k)), self.wanted(np.abs))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("head_dim", [20, 64, 80, 128])
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_decode_attention(way, heads, head_dim, dtype):
    cached = Cached([1] * 4, [1, 150, 0, 37], heads, head_dim, 16, dtype)
    close(cached.decode(way), cached.wanted())


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_decode_attention_of_blocks_that_rows_share(way, block_size):
    cached = Cached([1] * 5, [129, 500, 0, 128, 257], (6, 2), 40, block_size, shared=2)
    close(cached.decode(way), cached.wanted())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("head_dim", [20, 64, 128])
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_qkv_decode_attention(way, heads, head_dim, dtype):
    cached = Cached([1] * 3, [1, 150, 37], heads, head_dim, 16, dtype)
    qkv, angles = draw((3, (heads[0] + 2 * heads[1]) * head_dim)), draw((3, head_dim // 2), seed=1)
    slots = int32([cached.rows.slots(row, length - 1, length)[0] for row, length in enumerate(cached.rows.lengths)])
    arguments = qkv, angles.cos(), angles.sin(), cached.k, cached.v, slots, cached.block_tables, cached.lengths
    out, *caches = way.qkv_decode_attention(*arguments, heads[0])
    assert [x.data_ptr() for x in caches] == [cached.k.data_ptr(), cached.v.data_ptr()], "written in place"
    q, k, v = np.split(float64(qkv).reshape(3, -1, head_dim), [heads[0], sum(heads)], axis=1)
    q, k = (rotate(x, float64(angles.cos()), float64(angles.sin())) for x in (q, k))
    for cache, values in ((cached.k, k), (cached.v, v)):
        block, offset = np.divmod(slots.numpy(), 16)
        bound = {"float32": 1e-6, "bfloat16": 2**-8, "float16": 2**-11}[dtype] * (1 + np.abs(values))
        assert (np.abs(float64(cache)[block, :, offset] - values) <= bound).all()
    cached.q = tensor(q)
    close(out.reshape(q.shape), cached.wanted())


NEW = {
    "prompts": [5, 20, 0, 7],
    "one each": [1, 1, 1, 1],
    "mixed": [1, 130, 0, 1],
    "a few each": [2, 4, 0, 3],
    "one in the middle": [0, 1, 0, 0],
    "longer than a block of queries": [1, 300, 1, 2],
    "none": [0, 0, 0, 0],
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("new", NEW.values(), ids=NEW.keys())
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_cached_attention(way, block_size, new, dtype):
    cached = Cached(new, [5, 310, 6, 137], (6, 2), 80, block_size, dtype, shared=1)
    assert (np.abs(float64(cached.attend(way)) - cached.wanted()) <= cached.bound(way)).all()


@pytest.mark.parametrize("head_dim", [20, 33, 64, 128])
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_cached_attention_in_bfloat16(way, heads, head_dim):
    """Numbers after a head's and a row's last ones are infinite, or another's."""
    cached = Cached([121, 33, 9], [121, 150, 37], heads, head_dim, 7, "bfloat16")
    assert (np.abs(float64(cached.attend(way)) - cached.wanted()) <= cached.bound(way)).all()


def test_more_new_tokens_than_the_cache_holds_see_nothing(way):
    cached = Cached([3, 1], [2, 0], (4, 2), 64, 16)
    close(cached.attend(way), cached.wanted())


def test_a_row_does_not_depend_on_its_neighbours(way):
    cached = Cached([1, 130, 0, 2, 9], [70, 310, 6, 137, 40], (6, 2), 80, 48)
    together = np.split(float64(cached.attend(way)), np.cumsum(cached.new)[:-1])
    for row in (0, 1, 3, 4):
        alone = float64(cached.attend(way, slice(row, row + 1)))
        np.testing.assert_allclose(together[row], alone, rtol=0, atol=0 if way.name == "compiled" else 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("cuts", [[7, 300], [290, 17], [120, 120, 67]], ids=str)
def test_a_prompt_in_chunks(way, cuts, dtype):
    """Several tokens a chunk: keys are taken in the same blocks in the same order, whatever the cuts."""
    length = sum(cuts)
    whole = Cached([length], [length], (6, 2), 80, 48, dtype)
    parts, start = [], 0
    for count in cuts:
        q, stop = whole.q[start : start + count], start + count
        parts.append(
            way.cached_attention(q, whole.k, whole.v, running_totals([count]), whole.block_tables, int32([stop]))
        )
        start = stop
    found, wanted = float64(paddle.concat(parts)), float64(whole.attend(way))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=0 if way.name == "compiled" else 1e-5)


if not PLAIN_ONLY:

    @pytest.mark.parametrize("junk", [-7, 2**31 - 1])
    def test_what_follows_a_rows_last_block_is_not_looked_at(junk):
        cached = Cached([1, 1, 3], [17, 0, 33], (4, 2), 64, 16, junk=junk)
        close(cached.attend(Way("compiled")), cached.wanted())

    def test_a_part_of_a_block_table():
        """Tensors that are views go as they look."""
        cached = Cached([1, 1, 3], [17, 0, 33], (4, 2), 64, 16)
        cached.block_tables = cached.block_tables[:, :3]
        close(cached.attend(Way("compiled")), cached.wanted())

    @pytest.mark.parametrize(
        "length, block, message",
        [
            (49, 2, "row 1 has length 49 and 3 blocks of 16 slots"),
            (-1, 2, "row 1 has length -1"),
            (48, -1, "block 2 of row 1 is -1 in a cache of 4 blocks"),
            (48, 4, "block 2 of row 1 is 4 in a cache of 4 blocks"),
        ],
    )
    @pytest.mark.parametrize("operation", ["decode_attention", "cached_attention"])
    def test_rows_that_are_not_in_the_cache(operation, length, block, message):
        q, cache = draw((2, 4, 8)), draw((4, 2, 16, 8))
        tables, lengths = int32([[0, 1, 9], [0, 1, block]]), int32([32, length])
        bounds = [running_totals([1, 1])] if operation == "cached_attention" else []
        with pytest.raises((RuntimeError, ValueError, OSError), match=message):
            getattr(Way("compiled"), operation)(q, cache, cache, *bounds, tables, lengths)
