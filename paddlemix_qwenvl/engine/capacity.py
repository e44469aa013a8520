"""How many blocks a cache needs, and how many there is room for."""

from __future__ import annotations

from paddlemix_qwenvl.engine.runner import Runner
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.errors import ConfigurationError

_SHARE = {"cpu": 0.25, "gpu": 0.8}
"""Of the memory that is free once the weights are loaded, what a cache takes where nobody says."""
_CONTEXTS = 4  # that it holds at most where nobody says


def blocks_needed(prompt_tokens: int, settings: GenerationSettings, block_size: int, shared: bool) -> int:
    """Blocks that one request may fill: its tokens, and those of its other beams, whose prompt is `shared` or not."""
    whole = -(-(prompt_tokens + settings.max_new_tokens) // block_size)
    return whole + (settings.num_beams - 1) * (whole - (prompt_tokens // block_size if shared else 0))


def blocks_there_is_room_for(runner: Runner, block_size: int, kv_cache_gib: float | None = None) -> int:
    """Blocks of a cache.

    Args:
        kv_cache_gib: of memory on each rank; None for a share of what is free.

    Raises:
        ConfigurationError: not a single block, more than is free, or no number.
    """
    if isinstance(kv_cache_gib, bool) or not isinstance(kv_cache_gib, int | float | None):
        raise ConfigurationError(f"kv_cache_gib is {kv_cache_gib!r:.100}: give a number of GiB, or None.")
    facts = runner.facts
    block_bytes = facts.bytes_per_token() * block_size
    device, free = runner.free_memory()
    if kv_cache_gib is None:
        return max(1, min(int(_SHARE[device] * free) // block_bytes, _CONTEXTS * facts.context // block_size))
    if not block_bytes <= kv_cache_gib * 2**30 <= free:
        raise ConfigurationError(
            f"kv_cache_gib is {kv_cache_gib:g}: give from {block_bytes / 2**30:.2g}, a block of {block_size} tokens, to "
            f"{free / 2**30:.3g}, which are free."
        )
    return int(kv_cache_gib * 2**30) // block_bytes
