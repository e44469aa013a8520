"""What `from_pretrained` and `from_config` make of their arguments, and where the weights are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import paddle

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.device import usable_dtype
from paddlemix_qwenvl.dtypes import DTYPES, dtype_name
from paddlemix_qwenvl.errors import CheckpointError, ConfigurationError, ParallelError
from paddlemix_qwenvl.models import unsupported
from paddlemix_qwenvl.models.generation_config import GENERATION_CONFIG
from paddlemix_qwenvl.parallel import tensor_parallel
from paddlemix_qwenvl.weights.checkpoint import WEIGHTS, Checkpoint

# Arguments of PaddleNLP's and transformers' methods that ask for what is done anyway -> with which values.
_FULFILLED = {
    "low_cpu_mem_usage": (True, False),
    "trust_remote_code": (True, False),
    "convert_from_torch": (True, False),
    "load_state_as_np": (True, False),
    "use_safetensors": (True,),
    "ignore_mismatched_sizes": (False,),
    "output_loading_info": (False,),
}


def loading_dtype(dtype: Any, torch_dtype: Any, config) -> str:
    """The dtype of the weights: the first that is given, else the config's; "auto" is the config's, too. On a GPU without bfloat16
    a config's becomes float16.

    Args:
        dtype, torch_dtype: a name, such as "bfloat16" or "torch.bfloat16", or Paddle's or PyTorch's object of that name.

    Raises:
        ConfigurationError: a dtype that weights cannot have, or the GPU has not.
    """
    own, device = "the config's dtype", paddle.device.get_device()
    for name, given in (("dtype", dtype), ("torch_dtype", torch_dtype), (own, config.dtype)):
        if given is None or (given == "auto" and name != own):
            continue
        if dtype_name(given) not in DTYPES:
            raise ConfigurationError(f"{name} is {given!r}: it must be one of {', '.join(DTYPES)}.")
        if name == own and dtype_name(given) == "bfloat16":
            return usable_dtype(None, device) or "bfloat16"
        return usable_dtype(dtype_name(given), device)
    return "float32"


def check_arguments(given: Mapping[str, Any], caller: str, known: Iterable[str]) -> None:
    """A misspelt argument must not be lost in silence. What asks for nothing, or for what is done anyway, passes.

    Raises:
        ConfigurationError: an argument that nobody knows.
    """
    left = {name: value for name, value in given.items() if not any(value is fits for fits in _FULFILLED.get(name, ()))}
    unsupported.refuse_arguments(left, caller, known)


def check_degree(degree: int | None) -> None:
    """Raises ParallelError for another `tensor_parallel_degree` than the number of ranks that were launched."""
    launched = tensor_parallel().degree
    if degree not in (None, launched):
        raise ParallelError(
            f"tensor_parallel_degree is {degree} but the model is split over {launched} rank(s): leave it out, and start as many "
            f"processes with `python -m paddle.distributed.launch`."
        )


def check_quantization(config, quantization: str | None, dtype: Any) -> None:
    """What may be asked of a checkpoint that is quantised already.

    Raises:
        ConfigurationError: another quantization, or a dtype that its tool does not have.
    """
    said = config.quantization
    if said and quantization:
        raise ConfigurationError(
            f"quantization is {quantization!r}, but the weights are quantised already, by {said.method}: leave it out."
        )
    if said and said.fields.is_half_alone and dtype is not None and dtype_name(dtype) == "float32":
        raise ConfigurationError(
            f"dtype is 'float32', but what {said.method} quantised has scales in float16, which wider numbers beside them make no "
            f"better: leave it out, or give 'float16' or 'bfloat16'."
        )


def check_blocks(config, checkpoint: Checkpoint) -> None:
    """Before a model of a thousand blocks is made in vain.

    Raises:
        CheckpointError: the config wants more blocks than the checkpoint has tensors.
    """
    if config.blocks > len(checkpoint.names()):
        raise CheckpointError(
            f"{checkpoint.path} has {len(checkpoint.names())} tensors, too few for the {config.blocks} blocks of the config: "
            f"take all files from one model."
        )


def weights_folder(name_or_path: str | os.PathLike, subfolder: str = "", **source) -> Path:
    """The local folder with the weights, which are downloaded if it is a name; arguments as `hub.snapshot`.

    Raises:
        CheckpointError: an index that is none.
        DownloadError: weights that cannot be had.
    """
    local = Path(name_or_path) / (subfolder or "")
    if local.is_dir():
        return local
    return hub.snapshot(str(name_or_path), WEIGHTS, (GENERATION_CONFIG,), subfolder, **source)


def shard_bytes(size: int | str) -> int:
    """Bytes of "5GB", "500MB" (powers of 1 000) or "5GiB" (of 1 024).

    Raises:
        ConfigurationError: no such size.
    """
    match = re.fullmatch(r"\s*(\d+)\s*([KMGT])(i?)B\s*", str(size), re.IGNORECASE)
    if not isinstance(size, bool) and isinstance(size, int) and size > 0:
        return size
    if not isinstance(size, str) or match is None:
        raise ConfigurationError(f"max_shard_size is {size!r}: give bytes, or text such as '5GB'.")
    return int(match[1]) * (1024 if match[3] else 1000) ** ("KMGT".index(match[2].upper()) + 1)
