"""What is given to a model, looked at before it is computed with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle

from paddlemix_qwenvl.dtypes import dtype_name
from paddlemix_qwenvl.errors import PromptError


def check_ids(input_ids) -> None:
    """Raises PromptError for what is no batch of token ids."""
    check_tensors({"input_ids": input_ids})
    if len(input_ids.shape) != 2 or input_ids.dtype not in (paddle.int64, paddle.int32):
        raise PromptError(
            f"input_ids is {dtype_name(input_ids.dtype)} {list(input_ids.shape)}: it must be int64 [B, S], "
            f"a batch of rows of one length, as the processor returns it."
        )


def check_tensors(inputs: Mapping[str, Any]) -> None:
    """Raises PromptError for what is there but no tensor of Paddle's."""
    for name, value in inputs.items():
        if value is not None and not isinstance(value, paddle.Tensor):
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            raise PromptError(
                f'{name} is a {kind}, not a tensor of Paddle: call the processor with return_tensors="pd", and pass on what it '
                f"returns."
            )
