"""How long answers took."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from paddlemix_qwenvl.device import peak_memory


def summary(runs: Sequence[dict[str, float]], new_tokens: int) -> dict[str, float]:
    """Medians of answers to the same prompt, and the peak memory so far.

    Args:
        runs: of each answer, the seconds of "vision", "prefill" and "decode", and of "load", which do not count.
        new_tokens: length of each answer.

    Returns:
        "repeats"; seconds an answer ("total", "vision", "prefill"); milliseconds a token of decoding; GiB as `peak_memory`.
    """
    parts = [{**run, "load": 0.0} for run in runs]
    steps = max(1, new_tokens - 1)
    return {
        "repeats": len(runs),
        "total": statistics.median(sum(part.values()) for part in parts),
        "vision": statistics.median(part["vision"] for part in parts),
        "prefill": statistics.median(part["prefill"] for part in parts),
        "decode_ms_per_token": 1000 * statistics.median(part["decode"] for part in parts) / steps,
        **peak_memory(),
    }
