"""The tensor-parallel group and its collectives.

The group is that of all processes that `paddle.distributed.launch` started (NCCL on GPUs, gloo on CPU), or the model-parallel one
of a program that called `paddle.distributed.fleet.init` itself. Without either it is a group of one, and every function here
returns its argument untouched.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from paddlemix_qwenvl.device import to_device, use_device
from paddlemix_qwenvl.errors import ParallelError

# Seconds that a rank outlives the one it waited for in vain: the launcher looks every second, and names whom it finds ended.
_GRACE = 4
_WORLD = 0  # Paddle's number of the group of all processes; static graphs know no group objects
_meetings = itertools.count()
DEGREES = (1, 2, 4, 8, 16)
"""Numbers of ranks that people start."""


@dataclass(frozen=True)
class TensorParallel:
    """A rank's place in its model-parallel group."""

    rank: int = 0
    degree: int = 1
    group: object = None

    def all_reduce(self, x, largest: bool = False):
        """Sum of `x` over the group, or the `largest` of each element; `x` itself is overwritten, but not in a static graph."""
        if self.degree > 1:
            import paddle
            import paddle.distributed as dist

            how = dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM
            if not paddle.in_dynamic_mode():
                return paddle._C_ops.all_reduce(x, _WORLD, how)
            with self._losses_named():
                if (
                    getattr(self.group, "backend", None) == "NCCL"
                ):  # in the calculation's own stream, which waits for none
                    dist.stream.all_reduce(x, how, self.group, use_calc_stream=True)
                else:
                    dist.all_reduce(x, how, self.group)
        return x

    def broadcast(self, x):
        """Rank 0's `x` on all ranks; the others give one of its shape and dtype, which is overwritten."""
        if self.degree > 1:
            import paddle.distributed as dist

            with self._losses_named():
                dist.broadcast(x, self.group.ranks[0], self.group)
        return x

    def least(self, number: int) -> int:
        """The smallest of the ranks' numbers."""
        if self.degree == 1:
            return number
        return -int(self.all_reduce(to_device([-number]), largest=True))

    def meet(self) -> None:
        """Wait, up to 15 minutes, until every rank has come here.

        For where ranks come at different times, because they read, download or compute different things: collectives over
        gloo give up after 30 s in Paddle 3.3, and no setting changes that. Over NCCL there is no such limit, and no wait here.
        """
        if getattr(self.group, "backend", None) != "GLOO":
            return
        from paddle.base import core

        store, key = core.create_or_get_global_tcp_store(), f"qwenvl/{self.group.name}/{next(_meetings)}"
        with self._losses_named():
            if store.add(key, 1) == self.degree:
                store.set(f"{key}/all", "here")
            store.wait(f"{key}/all")

    def all_gather(self, x, sizes: list[int], axis: int = -1):
        """The ranks' `x`, joined along `axis` in rank order; rank `i` has `sizes[i]` there, which may be 0."""
        if self.degree == 1:
            return x
        import paddle
        import paddle.distributed as dist

        axis, widest = axis % x.ndim, max(sizes)
        if x.shape[axis] < widest:  # the collectives want equal shapes
            missing = [*x.shape[:axis], widest - x.shape[axis], *x.shape[axis + 1 :]]
            x = paddle.concat([x, paddle.zeros(missing, x.dtype)], axis=axis)
        parts: list = []
        if paddle.in_dynamic_mode():
            with self._losses_named():
                dist.all_gather(parts, x, group=self.group)
        else:
            parts = paddle._C_ops.all_gather(x, _WORLD, self.degree).split(self.degree)
        filled = [paddle.slice(parts[rank], [axis], [0], [size]) for rank, size in enumerate(sizes) if size]
        return paddle.concat(filled, axis=axis)

    def deal(self, loads: list[int]) -> list[list[int]]:
        """Which pieces of work each rank takes, by index: the largest first, each to the rank that has least to do.

        (Longest processing time first: Graham 1969, at most a third over the best schedule.)
        """
        shares: list[list[int]] = [[] for _ in range(self.degree)]
        totals = [0] * self.degree
        for index in sorted(range(len(loads)), key=lambda index: -loads[index]):
            rank = totals.index(min(totals))
            shares[rank].append(index)
            totals[rank] += loads[index]
        return shares

    @contextmanager
    def _losses_named(self) -> Iterator[None]:
        """Raises ParallelError for what Paddle says of ranks that are gone."""
        try:
            yield
        except RuntimeError as error:
            time.sleep(_GRACE)
            raise ParallelError(
                f"rank {self.rank} of {self.degree} lost the others: one of them ended or was silent for too long, and its log "
                f"says why ({str(error).strip().splitlines()[-1].strip()})."
            ) from error

    def split(self, size: int, unit: int = 1) -> tuple[int, int]:
        """First and last-plus-one of this rank's share of `size`, whole units where it is made of them; earlier ranks take the
        remainder.
        """
        unit = 1 if size % unit else unit
        start, stop = self._share(self.rank, size // unit)
        return start * unit, stop * unit

    def sizes(self, size: int) -> list[int]:
        """How many of `size` units each rank has."""
        return [stop - start for start, stop in (self._share(rank, size) for rank in range(self.degree))]

    def _share(self, rank: int, size: int) -> tuple[int, int]:
        share, rest = divmod(size, self.degree)
        start = rank * share + min(rank, rest)
        return start, start + share + (rank < rest)


_override: ContextVar[TensorParallel | None] = ContextVar("tensor_parallel", default=None)


@contextmanager
def using(parallel: TensorParallel) -> Iterator[None]:
    """Layers made inside take `parallel` for their group: a module kept whole, or a rank that is only planned."""
    token = _override.set(parallel)
    try:
        yield
    finally:
        _override.reset(token)


def tensor_parallel() -> TensorParallel:
    """The group that layers made now belong to: fleet's model-parallel group, else that of `init_tensor_parallel`."""
    return _override.get() or _fleet_group() or _launched


def _fleet_group() -> TensorParallel | None:
    fleet = sys.modules.get("paddle.distributed.fleet")
    hybrid = getattr(getattr(fleet, "fleet", None), "_hcg", None)
    if hybrid is None:
        return None
    return TensorParallel(
        rank=hybrid.get_model_parallel_rank(),
        degree=hybrid.get_model_parallel_world_size(),
        group=hybrid.get_model_parallel_group(),
    )


_launched = TensorParallel()


def init_tensor_parallel(degree: int | None = None) -> TensorParallel:
    """Join the processes that `paddle.distributed.launch` started into one group of `degree` ranks; None takes them all.

    Paddle's world group is used as it is. `fleet.init` would make the same group twice more, and over gloo that fails at
    random: Paddle 3.3 keeps the addresses of all gloo groups under the same keys, so that a rank may read an old one.

    Raises:
        ParallelError: the launcher started another number of processes than `degree`.
    """
    import paddle.distributed as dist

    global _launched
    launched = dist.get_world_size()
    degree = degree or launched
    if launched != degree:
        raise ParallelError(
            f"mp_degree is {degree} but {launched} process(es) were launched: set mp_degree to {launched}, "
            f"or start {degree} processes with `python -m paddle.distributed.launch`."
        )
    if degree > 1 and _fleet_group() is None:
        _use_plain_store()
        group = dist.init_parallel_env()
        _launched = TensorParallel(group.rank, degree, group)
    return tensor_parallel()


def launched_ranks() -> int:
    """How many processes `paddle.distributed.launch` started; 1 without it."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))


def start_ranks(mp_degree: int | None, device: str | None) -> int:
    """Join the other processes that `paddle.distributed.launch` started, if any; returns this one's rank.

    Raises:
        ParallelError: another number of processes was launched than `mp_degree`, or all are given the same card.
    """
    if mp_degree is None and launched_ranks() == 1:
        return 0
    if device is not None and ":" in device and mp_degree != 1:
        raise ParallelError(
            f"device is {device!r}, which every rank would take: give gpu, and let GPUS (--gpus of the launcher) name the cards."
        )
    use_device(device)
    return init_tensor_parallel(mp_degree).rank


def _use_plain_store() -> None:
    """Have rank 0 meet the others through Paddle's older TCP store.

    The one over libuv (Paddle 3.3's default) logs a lost connection. Where that happens while rank 0's process ends, the logger
    may be gone already and the process aborts: an exit status of -6 in place of 0, or of the error's own.
    """
    import paddle
    from paddle.base import core

    if "FLAGS_tcp_store_using_libuv" in core.globals():
        paddle.set_flags({"FLAGS_tcp_store_using_libuv": False})
