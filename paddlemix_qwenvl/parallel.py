"""The tensor-parallel group and its collectives.

The group is the model-parallel one that `paddle.distributed.fleet.init` made (NCCL on GPUs, gloo on CPU). Without fleet it is a
group of one, and every function here returns its argument untouched.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from paddlemix_qwenvl.errors import ParallelError


@dataclass(frozen=True)
class TensorParallel:
    """A rank's place in its model-parallel group."""

    rank: int = 0
    degree: int = 1
    group: object = None

    def all_reduce(self, x):
        """Sum of `x` over the group."""
        if self.degree > 1:
            import paddle.distributed as dist

            dist.all_reduce(x, group=self.group)
        return x

    def all_gather(self, x, axis: int = -1):
        """The ranks' `x`, joined along `axis` in rank order."""
        if self.degree == 1:
            return x
        import paddle
        import paddle.distributed as dist

        parts: list = []
        dist.all_gather(parts, x, group=self.group)
        return paddle.concat(parts, axis=axis)

    def split(self, size: int) -> tuple[int, int]:
        """First and last-plus-one of this rank's share of `size` units; earlier ranks take the remainder."""
        share, rest = divmod(size, self.degree)
        start = self.rank * share + min(self.rank, rest)
        return start, start + share + (self.rank < rest)


@lru_cache(maxsize=1)
def _fleet_group() -> TensorParallel | None:
    from paddle.distributed import fleet

    hybrid = getattr(fleet.fleet, "_hcg", None)
    if hybrid is None:
        return None
    return TensorParallel(
        rank=hybrid.get_model_parallel_rank(),
        degree=hybrid.get_model_parallel_world_size(),
        group=hybrid.get_model_parallel_group(),
    )


def tensor_parallel() -> TensorParallel:
    """The group of this process: fleet's model-parallel group, or a group of one."""
    group = _fleet_group()
    if group is None:
        _fleet_group.cache_clear()
        return TensorParallel()
    return group


def init_tensor_parallel(degree: int) -> TensorParallel:
    """Start fleet with `degree` ranks of tensor parallelism.

    Raises:
        ParallelError: the launcher started another number of processes than `degree`.
    """
    import paddle.distributed as dist
    from paddle.distributed import fleet

    launched = dist.get_world_size()
    if launched != degree:
        raise ParallelError(
            f"mp_degree is {degree} but {launched} process(es) were launched: set mp_degree to {launched}, "
            f"or start {degree} processes with `python -m paddle.distributed.launch`."
        )
    if degree == 1:
        return TensorParallel()
    strategy = fleet.DistributedStrategy()
    strategy.hybrid_configs = {"dp_degree": 1, "mp_degree": degree, "pp_degree": 1}
    fleet.init(is_collective=True, strategy=strategy)
    _fleet_group.cache_clear()
    return tensor_parallel()
