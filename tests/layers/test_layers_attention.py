"""Causal attention over packed rows: without a cache, filling one, going on from one, one token at a time."""

import numpy as np
import paddle
import pytest
from numpy_model import attend, rotate

from paddlemix_qwenvl.errors import ParallelError
from paddlemix_qwenvl.layers.attention import AttentionContext, HeadSplit, causal_attention
from paddlemix_qwenvl.layers.kv_cache import KVCache
from paddlemix_qwenvl.parallel import TensorParallel, using

HEADS, KV_HEADS, HEAD_DIM = 6, 2, 8
SPLIT = HeadSplit(HEAD_DIM, 0, HEADS, 0, KV_HEADS)
LENGTHS = [3, 1, 7]
BLOCK_SIZE = 2
BLOCK_TABLES = np.random.default_rng(1).permutation(15).reshape(3, 5).astype("int32")


def ranks_of(num_heads: int, num_kv_heads: int, degree: int) -> list[HeadSplit]:
    found = []
    for rank in range(degree):
        with using(TensorParallel(rank, degree)):
            found.append(HeadSplit.of(num_heads, num_kv_heads, 128))
    return found


@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "degrees"),
    [(16, 2, (1, 2, 4, 8, 16)), (28, 4, (1, 2, 4, 28)), (64, 8, (1, 2, 4, 8, 16, 32)), (5, 5, (1, 5))],
    ids=["3B", "7B", "72B", "no sharing"],
)
def test_every_head_once_and_each_beside_its_own_key(num_heads, num_kv_heads, degrees):
    group = num_heads // num_kv_heads
    for degree in degrees:
        found = []
        for split in ranks_of(num_heads, num_kv_heads, degree):
            heads = range(split.first_head, split.last_head)
            keys = list(range(split.first_kv_head, split.last_kv_head))
            assert sorted({head // group for head in heads}) == keys
            assert len(heads) % len(keys) == 0 and split.num_heads == len(heads) and split.num_kv_heads == len(keys)
            local = [keys[i // (len(heads) // len(keys))] for i in range(len(heads))]
            assert local == [head // group for head in heads]
            assert split.query_rows == (heads[0] * 128, (heads[-1] + 1) * 128)
            assert split.kv_rows == (keys[0] * 128, (keys[-1] + 1) * 128)
            found += heads
        assert found == list(range(num_heads))


@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "degree", "message"),
    [
        (16, 2, 3, r"16 attention heads cannot be split over 3 ranks"),
        (28, 4, 8, r"28 attention heads cannot be split over 8 ranks"),
        (28, 4, 7, r"28 heads in groups of 7 cannot be split over 7 ranks"),
        (12, 2, 3, r"12 heads in groups of 6 cannot be split over 3 ranks"),
    ],
)
def test_what_cannot_be_split(num_heads, num_kv_heads, degree, message):
    with pytest.raises(ParallelError, match=message):
        ranks_of(num_heads, num_kv_heads, degree)


def slots(row: int, start: int, stop: int) -> np.ndarray:
    places = np.arange(start, stop, dtype="int32")
    return BLOCK_TABLES[row, places // BLOCK_SIZE] * BLOCK_SIZE + places % BLOCK_SIZE


class Rows:
    """Random projections of three rows of tokens, and their attention row by row in float64."""

    def __init__(self, lengths=LENGTHS, seed=0):
        draws = np.random.default_rng(seed)
        self.qkv = [draws.standard_normal((n, (HEADS + 2 * KV_HEADS) * HEAD_DIM)).astype(np.float32) for n in lengths]
        self.angles = [draws.uniform(-4, 4, (n, HEAD_DIM // 2)).astype(np.float32) for n in lengths]

    def expected(self, row: int) -> np.ndarray:
        heads = self.qkv[row].reshape(-1, HEADS + 2 * KV_HEADS, HEAD_DIM).transpose(1, 0, 2).astype(np.float64)
        q, k, v = np.split(heads, [HEADS, HEADS + KV_HEADS])
        k, v = (np.repeat(part, HEADS // KV_HEADS, axis=0) for part in (k, v))
        causal = np.tril(np.ones((q.shape[1],) * 2, bool))
        return attend(rotate(q, self.angles[row]), rotate(k, self.angles[row]), v, causal)

    def step(self, spans, cache=None, decoding=False, query_scale=None) -> list[np.ndarray]:
        """Attention of tokens `start:stop` of each row, packed; `cache` has what came before."""
        pieces = [slice(*span) for span in spans]
        qkv = np.concatenate([x[part] for x, part in zip(self.qkv, pieces, strict=True)])
        angles = np.concatenate([x[part] for x, part in zip(self.angles, pieces, strict=True)])
        sizes = [stop - start for start, stop in spans]
        context = AttentionContext(
            cos=paddle.to_tensor(np.cos(angles)),
            sin=paddle.to_tensor(np.sin(angles)),
            cu_seqlens=paddle.to_tensor(np.cumsum([0, *sizes]).astype("int32")),
            cache=cache,
            slot_mapping=paddle.to_tensor(np.concatenate([slots(row, *span) for row, span in enumerate(spans)])),
            block_tables=paddle.to_tensor(BLOCK_TABLES),
            lengths=paddle.to_tensor(np.array([stop for _, stop in spans], "int32")),
            decoding=decoding,
            query_scale=query_scale,
        )
        out = causal_attention(paddle.to_tensor(qkv), SPLIT, context, 0).numpy()
        return np.split(out, np.cumsum(sizes)[:-1])


def assert_rows(found: list, rows: Rows, spans) -> None:
    for i, (start, stop) in enumerate(spans):
        np.testing.assert_allclose(found[i], rows.expected(i)[start:stop], atol=2e-5)


def test_each_row_sees_itself_alone():
    rows, spans = Rows(), [(0, n) for n in LENGTHS]
    assert_rows(rows.step(spans), rows, spans)


def new_cache() -> KVCache:
    return KVCache.allocate(1, BLOCK_TABLES.size, KV_HEADS, BLOCK_SIZE, HEAD_DIM, "float32")


def test_filling_a_cache_changes_nothing():
    rows, spans = Rows(), [(0, n) for n in LENGTHS]
    assert_rows(rows.step(spans, new_cache()), rows, spans)


@pytest.mark.parametrize("cuts", [[1, 1, 1], [2, 1, 6], [1, 1, 5]], ids=str)
def test_going_on_from_a_cache_with_several_tokens(cuts):
    """Rows that had different lengths get different numbers of tokens more, one of them none."""
    rows, cache = Rows(), new_cache()
    rows.step([(0, cut) for cut in cuts], cache)
    spans = [(cut, n) for cut, n in zip(cuts, LENGTHS, strict=True)]
    assert_rows(rows.step(spans, cache), rows, spans)


def test_one_token_a_row_at_a_time():
    lengths = [n + 2 for n in LENGTHS]
    rows, cache = Rows(lengths), new_cache()
    rows.step([(0, n) for n in LENGTHS], cache)
    for more in range(2):
        spans = [(n + more, n + more + 1) for n in LENGTHS]
        assert_rows(rows.step(spans, cache, decoding=True), rows, spans)


@pytest.mark.parametrize("decoding", [False, True])
def test_query_scale_multiplies_the_queries(decoding):
    rows, plain, scaled = Rows([3, 3, 3]), new_cache(), new_cache()
    spans = [(1, 2)] * 3 if decoding else [(0, 1)] * 3
    for cache in (plain, scaled):
        rows.step([(0, 1)] * 3, cache)
    scale = np.array([0.5, 2.0, 3.0], np.float32).reshape(3, 1, 1)
    by_context = rows.step(spans, scaled, decoding, query_scale=paddle.to_tensor(scale))
    for qkv, factor in zip(rows.qkv, scale.ravel(), strict=True):
        qkv[:, : HEADS * HEAD_DIM] *= factor
    wanted = rows.step(spans, plain, decoding)
    np.testing.assert_allclose(np.concatenate(by_context), np.concatenate(wanted), atol=1e-5)
