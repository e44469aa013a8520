"""What processors return."""

from __future__ import annotations

from typing import Any

import numpy as np

from paddlemix_qwenvl.errors import ConfigurationError, PromptError

SIZES = ("original_sizes", "resized_sizes", "video_original_sizes", "video_resized_sizes")
"""What processors return for the grounding of answers; models have no use for it."""
RAGGED = "the texts are of different lengths, which make no tensor: pass padding=True, or return_tensors=None."


class BatchFeature(dict):
    """A batch by name, `inputs["input_ids"]` or `inputs.input_ids`; goes into a model as `**inputs`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"the batch has no {name!r}: it holds {', '.join(self)}.") from error


def tensors(data: dict, kind: str | None) -> BatchFeature:
    """Arrays as `kind`: "pd" for Paddle, "np" for NumPy, None for what they are; floats are float32, and `SIZES` stay lists.

    Raises:
        ConfigurationError: any other kind.
        PromptError: rows of different lengths.
    """
    if kind not in (None, "np", "pd"):
        raise ConfigurationError(f"return_tensors is {kind!r}: it must be 'pd', 'np' or None.")
    if kind is None:
        return BatchFeature(data)
    make = np.asarray
    if kind == "pd":
        from paddle import to_tensor as make
    return BatchFeature({name: value if name in SIZES else make(_array(value)) for name, value in data.items()})


def _array(value) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise PromptError(RAGGED) from error
    return array.astype(np.float32) if array.dtype == np.float64 else array
