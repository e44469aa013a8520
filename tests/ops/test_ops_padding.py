"""From a padded batch to packed tokens and back."""

import numpy as np
import paddle
import pytest
from numpy_ops import float64, tensor

MASKS = {
    "left and right": [[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]],
    "an empty row": [[1, 1], [0, 0], [1, 0]],
    "nothing real": [[0, 0, 0]],
    "one token": [[1]],
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("mask_dtype", ["int64", "int32", "bool"])
def test_there_and_back(way, mask, mask_dtype):
    mask = np.array(mask)
    indices, cu_seqlens = way.get_padding_offset(paddle.to_tensor(mask).astype(mask_dtype))
    assert indices.numpy().tolist() == np.flatnonzero(mask).tolist()
    assert cu_seqlens.dtype == paddle.int32
    assert cu_seqlens.numpy().tolist() == [0, *np.cumsum(mask.sum(1)).tolist()]
    values = np.random.default_rng(0).normal(size=(*mask.shape, 3, 2))
    for dtype in ("float32", "bfloat16", "int64"):
        x = tensor(values * 100).astype(dtype)
        packed = way.transpose_remove_padding(x, indices)
        assert packed.dtype == x.dtype
        assert float64(packed).tolist() == float64(x)[mask != 0].tolist()
        rebuilt = way.rebuild_padding(packed, indices, *mask.shape)
        assert rebuilt.dtype == x.dtype
        assert float64(rebuilt).tolist() == (float64(x) * mask[..., None, None]).tolist()


def test_rows_without_inner_axes(way):
    indices, _ = way.get_padding_offset(paddle.to_tensor([[0, 1], [1, 1]]))
    ids = paddle.to_tensor([[5, 6], [7, 8]])
    packed = way.transpose_remove_padding(ids, indices)
    assert packed.tolist() == [6, 7, 8]
    assert way.rebuild_padding(packed, indices, 2, 2).tolist() == [[0, 6], [7, 8]]
