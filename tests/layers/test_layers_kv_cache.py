"""The KV cache's book-keeping."""

import numpy as np
import paddle
import pytest

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.layers.kv_cache import KVCache


def test_a_fresh_cache():
    cache = KVCache.allocate(layers=3, batch=2, kv_heads=4, capacity=5, head_dim=6, dtype="bfloat16")
    assert len(cache.keys) == len(cache.values) == 3
    assert {(*tensor.shape, str(tensor.dtype)) for tensor in cache.keys + cache.values} == {
        (2, 4, 5, 6, "paddle.bfloat16")
    }
    assert cache.capacity == 5 and cache.longest == 0 and cache.empty
    assert cache.lengths.tolist() == cache.next_positions.tolist() == [0, 0]
    assert len({tensor.data_ptr() for tensor in cache.keys + cache.values}) == 6


def test_next_positions_follow_the_largest_of_each_row():
    cache = KVCache.allocate(1, 3, 1, 8, 2, "float32")
    positions = np.array([[0, 1, 0, 0, 0, 7, 8], [0, 1, 0, 1, 2, 7, 8], [0, 1, 0, 3, 1, 7, 9]])
    cu_seqlens = paddle.to_tensor([0, 2, 5, 7], dtype="int32")
    cache.extend(paddle.to_tensor([2, 3, 2], dtype="int32"), paddle.to_tensor(positions), cu_seqlens)
    assert cache.longest == 3 and not cache.empty
    assert cache.lengths.tolist() == [2, 3, 2]
    assert cache.next_positions.tolist() == [2, 4, 10]


def test_rows_that_get_nothing_keep_their_place():
    cache = KVCache.allocate(1, 2, 1, 8, 2, "float32")
    cache.extend(paddle.to_tensor([1, 2], dtype="int32"), paddle.to_tensor([[4, 5, 6]]), paddle.to_tensor([0, 1, 3]))
    cache.extend(paddle.to_tensor([3, 2], dtype="int32"), paddle.to_tensor([[5, 9]]), paddle.to_tensor([0, 2, 2]))
    assert cache.lengths.tolist() == [3, 2] and cache.next_positions.tolist() == [10, 7]


def test_no_slot_past_the_last_one():
    cache = KVCache.allocate(1, 1, 1, 3, 2, "float32")
    cache.reserve(3)
    with pytest.raises(PromptError, match=r"room for 3 tokens a row and 4 are needed"):
        cache.reserve(cache.longest + 1)
    with pytest.raises(PromptError, match=r"room for 3 tokens a row and 5 are needed"):
        cache.extend(paddle.to_tensor([5]), paddle.zeros([1, 5], "int64"), paddle.to_tensor([0, 5]))
    assert cache.longest == 3 and cache.lengths.tolist() == [0]


def test_reorder_moves_whole_rows():
    cache = KVCache.allocate(2, 3, 1, 2, 1, "float32")
    for layer in range(2):
        cache.keys[layer][:] = paddle.arange(3, dtype="float32").reshape([3, 1, 1, 1]) + 10 * layer
        cache.values[layer][:] = -paddle.arange(3, dtype="float32").reshape([3, 1, 1, 1]) - 10 * layer
    cache.lengths = paddle.to_tensor([1, 2, 0], dtype="int32")
    cache.next_positions = paddle.to_tensor([5, 6, 7])
    cache.reorder(paddle.to_tensor([2, 2, 0, 1]))
    for layer in range(2):
        assert (cache.keys[layer][:, 0, 0, 0].numpy() == np.array([2, 2, 0, 1]) + 10 * layer).all()
        assert (cache.values[layer][:, 0, 1, 0].numpy() == -np.array([2, 2, 0, 1]) - 10 * layer).all()
    assert cache.lengths.tolist() == [0, 0, 1, 2] and cache.next_positions.tolist() == [7, 7, 5, 6]
