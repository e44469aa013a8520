"""The paged key-value cache of all layers."""

import numpy as np
import paddle

from paddlemix_qwenvl.layers.kv_cache import KVCache


def test_a_fresh_cache():
    cache = KVCache.allocate(layers=3, num_blocks=2, kv_heads=4, block_size=5, head_dim=6, dtype="bfloat16")
    assert len(cache.keys) == len(cache.values) == 3
    assert {(*tensor.shape, str(tensor.dtype)) for tensor in cache.keys + cache.values} == {
        (2, 4, 5, 6, "paddle.bfloat16")
    }
    assert cache.num_blocks == 2 and cache.block_size == 5
    assert len({tensor.data_ptr() for tensor in cache.keys + cache.values}) == 6


def test_blocks_are_copied_in_every_layer():
    """In place; a block that is both a source and a target is read first."""
    cache = KVCache.allocate(layers=2, num_blocks=5, kv_heads=2, block_size=3, head_dim=2, dtype="float32")
    tensors = cache.keys + cache.values
    for i, tensor in enumerate(tensors):
        tensor[:] = paddle.arange(5 * 12, dtype="float32").reshape(tensor.shape) + 100 * i
    before, places = [tensor.numpy().copy() for tensor in tensors], [tensor.data_ptr() for tensor in tensors]
    cache.copy_blocks([(4, 0), (0, 2), (4, 3)])
    for tensor, old in zip(tensors, before, strict=True):
        assert np.array_equal(tensor.numpy(), old[[4, 1, 0, 4, 4]])
    assert [tensor.data_ptr() for tensor in cache.keys + cache.values] == places
