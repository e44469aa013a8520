"""Dense weights rounded to fewer bits, some rows at a time: what lies between is far wider than the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import paddle
from paddle import Tensor

_BLOCK = 1 << 22  # numbers at a time
_LARGEST_FP8 = 448


def to_int4(weight: Tensor, group_size: int, kept: Tensor | None = None) -> dict[str, Tensor]:
    """The tensors of `layers/formats.py: Int4`, each group from its least to its largest number, to the nearest of 16 steps.

    Args:
        weight: [out, in].
        group_size: a divisor of `in`.
        kept: float32 `[out, in / group_size]`, the share of each group's range that is kept, what lies outside becomes its end;
            None for all.
    """

    def rounded(rows: Tensor, *kept: Tensor) -> tuple[Tensor, ...]:
        groups = rows.astype("float32").reshape([rows.shape[0], -1, group_size])
        low, high = groups.min(-1).clip(max=0.0), groups.max(-1).clip(min=0.0)
        for share in kept:
            low, high = low * share, high * share
        scale = ((high - low) / 15).astype(weight.dtype)
        steps = scale.astype("float32")
        steps = paddle.where(steps > 0, steps, paddle.ones_like(steps))
        zeros = (-low / steps).round().clip(0, 15)
        numbers = (groups / steps.unsqueeze(-1)).round() + zeros.unsqueeze(-1)
        numbers = numbers.clip(0, 15).astype("int32").flatten(1)
        return (numbers[:, ::2] + numbers[:, 1::2] * 16).astype("uint8"), scale, zeros.astype("uint8")

    others = [] if kept is None else [kept]
    return dict(zip(("weight", "scale", "zeros"), _by_rows(weight, rounded, *others), strict=True))


def to_int8(weight: Tensor) -> dict[str, Tensor]:
    """int8 values `weight` and, in its dtype, the step `scale` `[out]` of each row, whose largest number is the largest there is.

    Args:
        weight: [out, in].
    """

    def rounded(rows: Tensor) -> tuple[Tensor, ...]:
        rows = rows.astype("float32")
        scale = (rows.abs().max(-1) / 127).astype(weight.dtype)
        steps = scale.astype("float32")
        steps = paddle.where(steps > 0, steps, paddle.ones_like(steps))
        return (rows / steps.unsqueeze(-1)).round().clip(-127, 127).astype("int8"), scale

    return dict(zip(("weight", "scale"), _by_rows(weight, rounded), strict=True))


def to_fp8(weight: Tensor, largest: Tensor | None) -> dict[str, Tensor]:
    """The tensors of `layers/formats.py: Fp8`, each row's largest number the largest there is.

    Args:
        weight: [out, in].
        largest: float32 [out], magnitudes; None for those of the rows.
    """
    if largest is None:
        (largest,) = _by_rows(weight, lambda rows: (rows.astype("float32").abs().max(-1),))
    scale = (largest / _LARGEST_FP8).astype(weight.dtype)
    steps = scale.astype("float32")
    steps = paddle.where(steps > 0, steps, paddle.ones_like(steps))

    def rounded(rows: Tensor, steps: Tensor) -> tuple[Tensor]:
        numbers = (rows.astype("float32") / steps.unsqueeze(-1)).clip(-_LARGEST_FP8, _LARGEST_FP8)
        return (numbers.astype(paddle.float8_e4m3fn).view("uint8"),)

    (values,) = _by_rows(weight, rounded, steps)
    return {"weight": values, "scale": scale}


def _by_rows(weight: Tensor, function: Callable[..., tuple[Tensor, ...]], *others: Tensor) -> Iterator[Tensor]:
    """What `function` makes of rows of the tensors, put together."""
    count = max(1, _BLOCK // weight.shape[1])
    blocks = [slice(start, start + count) for start in range(0, weight.shape[0], count)]
    parts = [function(weight[block], *(other[block] for other in others)) for block in blocks]
    return (paddle.concat(part) for part in zip(*parts, strict=True))
