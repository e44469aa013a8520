"""Attention of many patches, some heads at a time."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.layers.norm import RMSNorm
from paddlemix_qwenvl.layers.residual import ResidualStream
from paddlemix_qwenvl.models.qwen2_5_vl import vision

ROWS, HEAD = vision.MANY_PATCHES, 8


@pytest.fixture
def widths(monkeypatch):
    """How many heads each call of the attention was for."""
    seen, attention = [], ops.qkv_attention

    def spy(qkv, cos, sin, cu_seqlens, num_heads, *others, **options):
        assert qkv.shape[1] == 3 * num_heads * HEAD
        seen.append(num_heads)
        return attention(qkv, cos, sin, cu_seqlens, num_heads, *others, **options)

    monkeypatch.setattr(ops, "qkv_attention", spy)
    return seen


def layer(heads: int, dtype: str = "float32") -> vision.VisionAttention:
    paddle.seed(0)
    attention = vision.VisionAttention(SimpleNamespace(width=heads * HEAD, num_heads=heads, head_dim=HEAD))
    if dtype == "int8":
        attention.qkv.quantize(dtype)
        return attention
    return attention.to(dtype=dtype)


def attended(attention, rows: int) -> np.ndarray:
    """Of seeded rows in three segments."""
    draws = np.random.default_rng(0)
    width = attention.num_heads * HEAD
    x = paddle.to_tensor(draws.standard_normal((rows, width)).astype(np.float32))
    angles = paddle.to_tensor(draws.standard_normal((rows, HEAD // 2)).astype(np.float32))
    norm = RMSNorm(width, 1e-6).to(dtype=attention.proj.weight.dtype)
    segments = paddle.to_tensor(np.array([0, rows // 3, rows // 2, rows], np.int32))
    return attention(ResidualStream(x), norm, angles.cos(), angles.sin(), segments).numpy()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("heads, parts", [(4, [1, 1, 1, 1]), (7, [1, 2, 2, 2]), (16, [4, 4, 4, 4])])
def test_many_patches_go_by_heads_and_few_all_at_once(widths, monkeypatch, heads, parts, dtype):
    attention = layer(heads, dtype)
    with paddle.no_grad():
        found = attended(attention, ROWS)
        assert widths == parts
        monkeypatch.setattr(vision, "MANY_PATCHES", ROWS + 1)
        wanted = attended(attention, ROWS)
    assert widths == [*parts, heads]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_what_goes_all_at_once(widths):
    """Fewer heads than parts, what is to be differentiated, and weights that are neither dense nor int8."""
    with paddle.no_grad():
        attended(layer(3), ROWS)
    attended(layer(4), ROWS)
    quantised = layer(4)
    quantised.qkv.quantize("fp8")
    with paddle.no_grad():
        attended(quantised, ROWS)
    assert widths == [3, 4, 4]
