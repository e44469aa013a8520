"""What a GPU would see of a piece of work: copies to it and from it, and operations, Paddle's and ours.

An operation is a call of Paddle's dispatch, as its own list of calls by dtype counts them (FLAGS_low_precision_op_list). What
`gpu_stand_in` plays by several operations of the CPU is one.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import paddle
import pytest
from paddle.base import core

READS = ("numpy", "tolist", "item", "__bool__", "__int__", "__float__", "__index__", "__array__", "cpu", "pin_memory")
"""Methods of a tensor that copy it to the host."""


class Counts:
    """So far.

    Attributes:
        uploads, downloads: copies to the device, and from it.
        played: operations that the stand-in plays, by name.
    """

    def __init__(self):
        self.uploads = self.downloads = 0
        self.played: Counter[str] = Counter()
        self._hidden, self._depth = 0, 0

    @property
    def operations(self) -> int:
        """All there were."""
        return sum(self.played.values()) + _dispatched() - self._hidden

    @contextmanager
    def hiding(self) -> Iterator[bool]:
        """What is done inside is not counted; gives whether it would have been."""
        before, self._depth = _dispatched(), self._depth + 1
        try:
            yield self._depth == 1
        finally:
            self._depth -= 1
            if not self._depth:
                self._hidden += _dispatched() - before


_counts: list[Counts] = []  # of the block that counts, if there is one


def _dispatched() -> int:
    calls = core.get_low_precision_op_list().values()
    return sum(int(number) for each in calls for number in each.split(","))


def played(name: str, function):
    """`function`, which plays one operation of the device."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        if not _counts:
            return function(*args, **kwargs)
        with _counts[0].hiding() as is_outermost:
            if is_outermost:
                _counts[0].played[name] += 1
            return function(*args, **kwargs)

    return call


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what is done inside, within `gpu_stand_in.card`."""
    counts = Counts()

    def copying(kind: str, function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            with counts.hiding() as is_outermost:
                setattr(counts, kind, getattr(counts, kind) + is_outermost)
                return function(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paddle, "to_tensor", copying("uploads", paddle.to_tensor))
        for name in READS:
            patch.setattr(paddle.Tensor, name, copying("downloads", getattr(paddle.Tensor, name)))
        core.clear_low_precision_op_list()
        paddle.set_flags({"FLAGS_low_precision_op_list": 1})
        _counts.append(counts)
        try:
            yield counts
        finally:
            _counts.remove(counts)
            counts._hidden -= _dispatched()  # of what comes after the end nothing is counted
            paddle.set_flags({"FLAGS_low_precision_op_list": 0})
            core.clear_low_precision_op_list()
