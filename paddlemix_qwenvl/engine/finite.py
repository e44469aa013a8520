"""What is said of logits that are no numbers."""

from __future__ import annotations

from paddlemix_qwenvl.errors import GenerationError


def not_finite(dtype: str) -> GenerationError:
    """The error for logits of a model in `dtype`."""
    wider = {"float16": 'dtype="bfloat16" or dtype="float32"', "bfloat16": 'dtype="float32"'}.get(dtype)
    remedy = f"what overflows in {dtype} does not with {wider}" if wider else "float32 is the widest there is"
    return GenerationError(
        f"the model computed NaN or infinity in {dtype}, from which no token can be taken: {remedy}; `paddlemix-qwenvl doctor "
        f"--model_path FOLDER` finds weights that are NaN themselves."
    )
