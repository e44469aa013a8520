"""From padded batches to packed tokens and back."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor


def get_padding_offset(attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where the real tokens of a padded batch are.

    Args:
        attention_mask: [B, S], nonzero at real tokens.

    Returns:
        indices: [T] int64 flat positions of the real tokens; cu_seqlens: [B + 1] int32 running totals from 0.
    """
    mask = attention_mask.astype("bool")
    lengths = mask.astype("int32").sum(-1, dtype="int32")
    cu_seqlens = F.pad(paddle.cumsum(lengths, dtype="int32"), [1, 0])
    return paddle.nonzero(mask.flatten()).flatten(), cu_seqlens


def transpose_remove_padding(x: Tensor, indices: Tensor) -> Tensor:
    """The real tokens of a padded batch, packed.

    Args:
        x: [B, S, ...].
        indices: [T] int64, from `get_padding_offset`.

    Returns:
        [T, ...].
    """
    return paddle.gather(x.flatten(0, 1), indices)


def rebuild_padding(x: Tensor, indices: Tensor, batch: int, length: int) -> Tensor:
    """The inverse of `transpose_remove_padding`.

    Args:
        x: [T, ...].
        indices: [T] int64, from `get_padding_offset`.

    Returns:
        [batch, length, ...] with zeros where there is padding.
    """
    flat = paddle.zeros([batch * length, *x.shape[1:]], dtype=x.dtype)
    return paddle.index_put(flat, (indices,), x).reshape([batch, length, *x.shape[1:]])
