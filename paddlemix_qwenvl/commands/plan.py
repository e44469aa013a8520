"""`paddlemix-qwenvl plan`: how much memory a model takes on each rank, worked out from shapes alone: no weights, no memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import typer

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.commands import options, terminal
from paddlemix_qwenvl.dtypes import BYTES
from paddlemix_qwenvl.errors import ConfigurationError, ParallelError
from paddlemix_qwenvl.models.family import Family, families
from paddlemix_qwenvl.parallel import DEGREES, TensorParallel, using

# Left free on a card for activations, the collectives' buffers and the framework itself.
RESERVE = 0.1


@dataclass(frozen=True)
class RankPlan:
    """One rank's share at one degree of tensor parallelism.

    Attributes:
        degree: ranks.
        weight_bytes: parameters on the rank that has most.
        cache_bytes_per_token: keys and values of one token of one row.
    """

    degree: int
    weight_bytes: int
    cache_bytes_per_token: int

    def blocks(self, card_gib: float, block_size: int) -> int:
        """Blocks of the cache, `block_size` tokens each, that a card of `card_gib` GiB has room for beside the weights."""
        free = card_gib * 2**30 * (1 - RESERVE) - self.weight_bytes
        return max(0, int(free // (self.cache_bytes_per_token * block_size)))


@options.grouped
def plan(
    model_path: options.ModelOrSize = "demo",
    *,
    loading: options.Loading,
    sharing: options.Sharing,
) -> None:
    """Print the memory that each rank would take at each degree of tensor parallelism, without weights."""
    print_plan(model_path, loading, sharing)


def print_plan(model_path: str, loading: options.Loading, sharing: options.Sharing) -> None:
    """The command `plan`."""
    terminal.quiet()
    terminal.import_paddle()
    with terminal.plain_errors():
        for line in plan_lines(model_path, **options.given(dtype=loading.dtype, **vars(sharing)), **loading.where()):
            typer.echo(line)


def plan_lines(
    model_path: str,
    card_gib: float,
    dtype: str | None = None,
    quantization: str | None = None,
    vision_parallel: str | None = None,
    **source,
) -> list[str]:
    """What each rank of a model would take, for a folder, a name, or a size such as "72B" (by name without any download).

    Arguments as in `Assistant.load`.

    Raises:
        ConfigurationError: no such model, or a quantization or dtype that its weights cannot have.
        DownloadError: no such model.
    """
    from paddlemix_qwenvl.models.loading import check_quantization

    family, config = config_of(model_path, **source)
    check_quantization(config, quantization, dtype)
    if vision_parallel is not None:
        config.vision_parallel = vision_parallel
    plans = plan_ranks(family.load("model"), config, dtype or config.dtype, quantization=quantization)
    from paddlemix_qwenvl.engine.engine import BLOCK_SIZE

    return table(plans, card_gib, BLOCK_SIZE, config.max_position_embeddings)


def config_of(model_path: str, **source) -> tuple[Family, Any]:
    """The family and the config of a released model that is known by its size, or of one that is there or fetched."""
    for family in families():
        if size := family.known_size(model_path):
            return family, family.load("config")(**{"torch_dtype": "bfloat16", **family.sizes[size]})
    from paddlemix_qwenvl.models.auto import find_family

    model_path = hub.locate(model_path)
    family = find_family(model_path, **source)
    return family, family.load("config").from_pretrained(model_path, **source)


def plan_ranks(model_class, config, dtype: str, degrees=DEGREES, quantization: str | None = None) -> list[RankPlan]:
    """The plan of each degree that the model's heads can be split by.

    Args:
        model_class: the family's.
        config: its config.
        dtype: of weights and KV cache.
        quantization: as in `from_pretrained`.

    Raises:
        ConfigurationError: an unknown dtype.
    """
    if dtype not in BYTES:
        raise ConfigurationError(f"dtype is {dtype!r}: it must be one of {', '.join(BYTES)}.")
    plans = []
    for degree in degrees:
        try:
            with using(TensorParallel(rank=0, degree=degree)):  # which takes the remainder of what does not divide
                model = model_class.without_memory(config, dtype)
        except ParallelError:
            continue
        width = BYTES[dtype]
        plans.append(RankPlan(degree, model.weight_bytes(width, quantization), width * model.cache_numbers_per_token()))
    return plans


def table(plans: list[RankPlan], card_gib: float, block_size: int, context: int) -> list[str]:
    """The plans as lines of text.

    Args:
        block_size: of the cache.
        context: tokens of prompt and answer together, at most.
    """
    lines = [
        f"{'mp_degree':>9} {'weights a rank':>15} {'cache of 1000 tokens':>21} {f'tokens on {card_gib:g} GiB':>19} "
        f"{f'blocks of {block_size}':>13} {'context':>8}"
    ]
    for plan in plans:
        blocks = plan.blocks(card_gib, block_size)
        tokens = blocks * block_size
        lines.append(
            f"{plan.degree:>9} {plan.weight_bytes / 2**30:>11.2f} GiB "
            f"{1000 * plan.cache_bytes_per_token / 2**20:>17.2f} MiB "
            f"{tokens or 'does not fit':>19} {blocks:>13} {min(tokens, context):>8}"
        )
    return lines
