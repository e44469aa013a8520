"""Rotary position embedding, and the split of packed queries, keys and values that goes with it."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor

from ..cast import to_float32


def mrope_tables(
    position_ids: Tensor, inv_freq: Tensor, mrope_section: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, plain or multimodal (Qwen2-VL, section 2.1).

    Args:
        position_ids: [T], or [rows, T], as three rows for time, height and width.
        inv_freq: [D/2] or [1, D/2] in radians a position, or [T, D/2].
        mrope_section: how many of the D/2 frequencies each row of `position_ids` turns, in order; sums to D/2.

    Returns:
        cos, sin: [T, D/2] float32.
    """
    positions, inv_freq = position_ids.astype("float32"), to_float32(inv_freq)
    if positions.ndim == 1:
        angles = positions.unsqueeze(-1) * inv_freq
    else:
        sections = inv_freq.split(list(mrope_section), axis=-1)
        angles = paddle.concat([positions[i].unsqueeze(-1) * section for i, section in enumerate(sections)], axis=-1)
    return angles.cos(), angles.sin()


def encode_rotary_qk(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate queries and keys (RoFormer, Su et al. 2021), number i of a head with number i + D/2 as in Qwen2.

    Args:
        q: [T, H, D].
        k: [T, Hkv, D].
        cos, sin: [T, D/2].

    Returns:
        Both rotated, in their shapes.
    """
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return _rotate(q, cos, sin), _rotate(k, cos, sin)


def qkv_transpose_split(
    qkv: Tensor, cos: Tensor, sin: Tensor, num_heads: int, num_kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Split packed queries, keys and values into heads, and rotate queries and keys as `encode_rotary_qk` does.

    Args:
        qkv: [T, (H + 2 Hkv) D], heads of queries, keys and values in this order.
        cos, sin: [T, D/2].

    Returns:
        q [T, H, D], k [T, Hkv, D], v [T, Hkv, D].
    """
    head_dim = qkv.shape[-1] // (num_heads + 2 * num_kv_heads)
    heads = qkv.reshape([-1, num_heads + 2 * num_kv_heads, head_dim])
    q, k, v = heads.split([num_heads, num_kv_heads, num_kv_heads], axis=1)
    return *encode_rotary_qk(q, k, cos, sin), v


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = to_float32(x).chunk(2, axis=-1)
    return paddle.concat([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
