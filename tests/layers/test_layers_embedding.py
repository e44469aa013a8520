"""Token embedding and output head, whole and split over ranks."""

import numpy as np
import paddle
import pytest
from gpu_stand_in import card

from paddlemix_qwenvl.layers.embedding import ParallelLMHead, VocabParallelEmbedding
from paddlemix_qwenvl.layers.formats import Dense, Int8
from paddlemix_qwenvl.layers.parameter import pieces_of
from paddlemix_qwenvl.parallel import TensorParallel, using

TABLE = np.random.default_rng(0).standard_normal((11, 6)).astype(np.float32)
IDS = np.array([[0, 10, 5], [3, 4, 5]])


class Alone(TensorParallel):
    """A rank that keeps its part."""

    def all_reduce(self, x):
        return x

    def all_gather(self, x, sizes):
        assert sizes == self.sizes(11)
        return x


def test_embedding_is_a_look_up():
    layer = VocabParallelEmbedding(11, 6, 0.02)
    layer.weight.set_value(TABLE)
    np.testing.assert_array_equal(layer(paddle.to_tensor(IDS)).numpy(), TABLE[IDS])
    np.testing.assert_array_equal(layer(paddle.to_tensor(IDS[0].astype("int32"))).numpy(), TABLE[IDS[0]])


@pytest.mark.parametrize("degree", [2, 3])
def test_ranks_hold_rows_and_add_up(degree):
    total, scores = 0, []
    hidden = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    for rank in range(degree):
        with using(Alone(rank, degree)):
            layer = VocabParallelEmbedding(11, 6, 0.02)
            head, untied = ParallelLMHead(11, 6, layer), ParallelLMHead(11, 6)
        (piece,) = pieces_of(layer.weight)
        layer.weight.set_value(TABLE[piece.source])
        assert pieces_of(untied.weight)[0].source == piece.source and pieces_of(untied.weight)[0].linear
        total = total + layer(paddle.to_tensor(IDS)).numpy()
        scores.append(head(paddle.to_tensor(hidden)).numpy())
    np.testing.assert_array_equal(total, TABLE[IDS])
    np.testing.assert_allclose(np.concatenate(scores, -1), hidden @ TABLE.T, atol=1e-5)


def test_a_tied_head_is_the_embedding_itself():
    embedding = VocabParallelEmbedding(11, 6, 0.02)
    head = ParallelLMHead(11, 6, embedding)
    assert head.weight is embedding.weight and head.bias is None
    embedding.weight.set_value(TABLE)
    hidden = np.ones((1, 6), np.float32)
    np.testing.assert_allclose(head(paddle.to_tensor(hidden)).numpy(), hidden @ TABLE.T, atol=1e-5)


def test_initial_spread():
    paddle.seed(0)
    assert VocabParallelEmbedding(500, 40, 0.02).weight.numpy().std() == pytest.approx(0.02, rel=0.05)


def test_narrow_weights_give_float32_scores():
    paddle.set_default_dtype("bfloat16")
    try:
        embedding = VocabParallelEmbedding(11, 6, 0.02)
    finally:
        paddle.set_default_dtype("float32")
    embedding.weight.set_value(paddle.to_tensor(TABLE).astype("bfloat16"))
    narrow = embedding.weight.astype("float32").numpy()
    rows = embedding(paddle.to_tensor(IDS))
    np.testing.assert_array_equal(rows.numpy(), narrow[IDS])
    scores = ParallelLMHead(11, 6, embedding)(rows)
    assert scores.dtype == paddle.float32
    np.testing.assert_allclose(scores.numpy(), narrow[IDS] @ narrow.T, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("capability, shared", [((8, 0), False), ((12, 0), True)])
def test_a_tied_embedding_shares_int8_rows_that_lie_row_by_row(capability, shared):
    """Where Paddle's kernel has an order of its own, the embedding keeps the wide rows."""
    table = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
    embedding = VocabParallelEmbedding(32, 64, 0.02)
    embedding.weight.set_value(table)
    head = ParallelLMHead(32, 64, embedding.to(dtype="bfloat16"))
    with card(capability):
        head.quantize("int8")
        rows, scores = embedding(paddle.to_tensor(IDS)), head(paddle.to_tensor(table[:3]).astype("bfloat16"))
    assert embedding.format == (Int8() if shared else Dense()) and head.format == Int8(arranged=not shared)
    assert rows.dtype == paddle.bfloat16 and scores.dtype == paddle.float32
    np.testing.assert_allclose(rows.astype("float32").numpy(), table[IDS], atol=0.02)
    np.testing.assert_allclose(scores.numpy(), table[:3] @ table.T, rtol=0.02, atol=0.4)
