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

READS = ("numpy", "tolist", "item", "__bool__", "__int__", "__float__", "__index__", "__array__", "cpu")
"""Methods that copy a tensor to the host, which waits for it."""


class Counts:
    """So far.

    Attributes:
        log: copies in their order: "upload" and "download", which the host does not wait for, "wait" where it waits for a download
            that began before, and "blocking upload" and "blocking download".
        played: operations that the stand-in plays, by name.
    """

    def __init__(self):
        self.log: list[str] = []
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


def counted(function, note):
    """`function`, whose calls, but for those within another such one, are noted by `note(counts, *args, **kwargs)`."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        if not _counts:
            return function(*args, **kwargs)
        with _counts[0].hiding() as is_outermost:
            if is_outermost:
                note(_counts[0], *args, **kwargs)
            return function(*args, **kwargs)

    return call


def played(name: str, function):
    """`function`, which plays one operation of the device."""
    return counted(function, lambda counts, *_, **__: counts.played.update([name]))


def copying(kind: str, function):
    """`function`, which plays a copy, or a wait for one; the host waits for it unless it is given `blocking=False`."""
    kinds = {True: f"blocking {kind}", False: kind, None: kind}
    return counted(function, lambda counts, *_, blocking=None, **__: counts.log.append(kinds[blocking]))


def _note_upload(counts: Counts, *args, place=None, **kwargs) -> None:
    if place is None:  # else to pinned memory
        counts.log.append("blocking upload")


def _note_read(counts: Counts, x, *args, **kwargs) -> None:
    if not getattr(x, "is_pinned", False):
        counts.log.append("blocking download")


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what is done inside, within `gpu_stand_in.card`."""
    counts = Counts()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paddle, "to_tensor", counted(paddle.to_tensor, _note_upload))
        for name in READS:
            patch.setattr(paddle.Tensor, name, counted(getattr(paddle.Tensor, name), _note_read))
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
