"""What a GPU would see of a piece of work: copies to it and from it, and operations, Paddle's and ours.

An operation is a call of Paddle's dispatch, as its own list of calls by dtype counts them (FLAGS_low_precision_op_list). What
`gpu_stand_in` plays by several operations of the CPU is one.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import local

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
        self.hidden = 0  # operations that play others

    @property
    def operations(self) -> int:
        """All there were."""
        return sum(self.played.values()) + _dispatched() - self.hidden


_counting: list[Counts] = []  # of the blocks that count
_own = local()  # of a thread: `depth` of calls that play something
refused: list[str] = []
"""Why nothing can be copied now in a way that is waited for, if so."""


def _dispatched() -> int:
    calls = core.get_low_precision_op_list().values()
    return sum(int(number) for each in calls for number in each.split(","))


def counted(function, note):
    """`function`, whose calls, but for those within another such one, are noted by `note(counts, *args, **kwargs)`."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        depth = getattr(_own, "depth", 0)
        if not depth:
            for counts in _counting or [Counts()]:
                note(counts, *args, **kwargs)
        before, _own.depth = _dispatched() if _counting else 0, depth + 1
        try:
            return function(*args, **kwargs)
        finally:
            _own.depth = depth
            for counts in _counting if not depth else ():
                counts.hidden += _dispatched() - before

    return call


def played(name: str, function):
    """`function`, which plays one operation of the device."""
    return counted(function, lambda counts, *_, **__: counts.played.update([name]))


def copying(kind: str, function):
    """`function`, which plays a copy, or a wait for one; the host waits for it unless it is given `blocking=False`."""
    kinds = {True: f"blocking {kind}", False: kind, None: kind}
    return counted(function, lambda counts, *_, blocking=None, **__: counts.log.append(kinds[blocking]))


def _note_blocking(counts: Counts, kind: str) -> None:
    if refused:
        raise RuntimeError(refused[0])
    counts.log.append(f"blocking {kind}")


def _note_upload(counts: Counts, *args, place=None, **kwargs) -> None:
    if place is None:  # else to pinned memory
        _note_blocking(counts, "upload")


def _note_value(counts: Counts, x, *args, **kwargs) -> None:
    if not getattr(x, "is_pinned", False):
        _note_blocking(counts, "upload")


def _placed(to_tensor):
    @functools.wraps(to_tensor)
    def call(*args, place=None, **kwargs):
        x = to_tensor(*args, place=place, **kwargs)
        if place is not None:
            x.is_pinned = True
        return x

    return call


def _note_read(counts: Counts, x, *args, **kwargs) -> None:
    if not getattr(x, "is_pinned", False):
        _note_blocking(counts, "download")


def watch(patch: pytest.MonkeyPatch) -> None:
    """Have Paddle's own copies noted."""
    patch.setattr(paddle, "to_tensor", counted(_placed(paddle.to_tensor), _note_upload))
    patch.setattr(paddle.Tensor, "set_value", counted(paddle.Tensor.set_value, _note_value))
    for name in READS:
        patch.setattr(paddle.Tensor, name, counted(getattr(paddle.Tensor, name), _note_read))


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what is done inside, within `gpu_stand_in.card`."""
    counts = Counts()
    core.clear_low_precision_op_list()
    paddle.set_flags({"FLAGS_low_precision_op_list": 1})
    _counting.append(counts)
    try:
        yield counts
    finally:
        _counting.remove(counts)
        counts.hidden -= _dispatched()  # of what comes after the end nothing is counted
        paddle.set_flags({"FLAGS_low_precision_op_list": 0})
        core.clear_low_precision_op_list()
