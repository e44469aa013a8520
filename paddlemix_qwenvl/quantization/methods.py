"""What the methods make of a Linear weight, and how it lies in files: AutoAWQ's version "gemm", or compressed-tensors.

Sources: AutoAWQ (`awq/utils/packing_utils.py`), compressed-tensors (`compressors/pack_quantized`, `compressors/naive_quantized`,
`quantization/quant_scheme.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np
import paddle
from paddle import Tensor

from paddlemix_qwenvl.dtypes import SAFETENSORS_DTYPES
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.layers.rounding import to_fp8, to_int4, to_int8
from paddlemix_qwenvl.weights.groups import AWQ_ORDER, GROUPS_OF, halves, numbers, words

GROUP_SIZES = (128, 64, 32)
GROUPS = 8  # of a row, at least
Kinds = dict[str, tuple[str, tuple[int, ...]]]
Made = dict[str, np.ndarray]


class Method(Protocol):
    """How weights are quantised and laid out.

    Attributes:
        dtype: of the numbers that are not quantised; None for what they are in.
    """

    dtype: str | None

    def misfit(self, shape: tuple[int, int]) -> str:
        """Why a weight `[out, in]` cannot be quantised so; empty where it can."""

    def tensors(self, shape: tuple[int, int], dtype: str) -> Kinds:
        """Names, dtypes as safetensors calls them, and shapes of what is written of a weight; `dtype` of the numbers beside."""

    def made(self, weight: Tensor) -> tuple[Made, Tensor]:
        """These tensors of a weight `[out, in]` in the dtype of the numbers beside, and what they stand for, in float32."""

    def settings(self) -> dict[str, Any]:
        """The `quantization_config`."""


@dataclass(frozen=True)
class _Groups:
    """4 bits a number and a zero a group."""

    group_size: int

    def misfit(self, shape):
        outputs, inputs = shape
        if inputs % self.group_size:
            return f"{inputs} inputs are no whole groups of {self.group_size}"
        return f"{outputs} outputs are no whole words of 8" if outputs % 8 else ""

    def made(self, weight):
        return self.laid(to_int4(weight, self.group_size))


class AwqGroups(_Groups):
    """Those laid out as AutoAWQ does, which has no numbers but float16."""

    dtype: ClassVar = "float16"

    def tensors(self, shape, dtype):
        outputs, inputs = shape
        groups = inputs // self.group_size
        return {
            "qweight": ("I32", (inputs, outputs // 8)),
            "qzeros": ("I32", (groups, outputs // 8)),
            "scales": (SAFETENSORS_DTYPES[dtype], (groups, outputs)),
        }

    def laid(self, found: dict[str, Tensor]) -> tuple[Made, Tensor]:
        """As `made`, of the tensors of `to_int4`."""
        values, zeros, scale = numbers(found["weight"].numpy()), found["zeros"].numpy(), found["scale"].numpy()
        return {"qweight": _laid(values), "qzeros": _laid(zeros), "scales": scale.T}, widened(found)

    def settings(self):
        return {
            "quant_method": "awq",
            "version": "gemm",
            "bits": 4,
            "group_size": self.group_size,
            "zero_point": True,
            "modules_to_not_convert": ["visual"],
        }


class PackedGroups(_Groups):
    """Those laid out as compressed-tensors does."""

    dtype: ClassVar = None

    def tensors(self, shape, dtype):
        outputs, inputs = shape
        groups = inputs // self.group_size
        return {
            "weight_packed": ("I32", (outputs, inputs // 8)),
            "weight_scale": (SAFETENSORS_DTYPES[dtype], (outputs, groups)),
            "weight_zero_point": ("I32", (outputs // 8, groups)),
            "weight_shape": ("I64", (2,)),
        }

    def laid(self, found: dict[str, Tensor]) -> tuple[Made, Tensor]:
        """As `made`, of the tensors of `to_int4`."""
        outputs, half = found["weight"].shape
        tensors = {
            "weight_packed": words(found["weight"].numpy()),
            "weight_scale": found["scale"].numpy(),
            "weight_zero_point": words(halves(found["zeros"].numpy().T)).T,
            "weight_shape": np.array([outputs, 2 * half]),
        }
        return tensors, widened(found)

    def settings(self):
        weights = {"num_bits": 4, "type": "int", "symmetric": False, "group_size": self.group_size, "strategy": "group"}
        return _compressed("pack-quantized", {**weights, "dynamic": False}, None)


@dataclass(frozen=True)
class Rows:
    """8 bits a number and a step a row, laid out as compressed-tensors does.

    Attributes:
        type: "int" or "float".
    """

    type: str
    dtype: ClassVar = None

    def misfit(self, shape):
        return ""

    def tensors(self, shape, dtype):
        kind = "I8" if self.type == "int" else "F8_E4M3"
        return {"weight": (kind, shape), "weight_scale": (SAFETENSORS_DTYPES[dtype], (shape[0], 1))}

    def made(self, weight):
        found = to_int8(weight) if self.type == "int" else to_fp8(weight, None)
        values, scale = found["weight"], found["scale"].unsqueeze(-1)
        tensors = {"weight": values.numpy(), "weight_scale": scale.numpy()}
        if self.type == "float":
            values = values.view(paddle.float8_e4m3fn)
        return tensors, values.astype("float32") * scale.astype("float32")

    def settings(self):
        numbers = {"num_bits": 8, "type": self.type, "symmetric": True, "group_size": None}
        weights = {**numbers, "strategy": "channel", "dynamic": False}
        return _compressed(f"{self.type}-quantized", weights, {**numbers, "strategy": "token", "dynamic": True})


def _compressed(form: str, weights: dict, activations: dict | None) -> dict[str, Any]:
    """compressed-tensors' settings for the Linear modules of the language model's blocks."""
    group = {
        "targets": ["Linear"],
        "weights": weights,
        "input_activations": activations,
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "format": form,
        "config_groups": {"group_0": group},
        "ignore": ["re:.*lm_head$", r"re:.*visual\..*"],
    }


def widened(found: dict[str, Tensor]) -> Tensor:
    """float32 `[out, in]` of what `to_int4` made."""
    packed, (outputs, groups) = found["weight"].astype("int32"), found["scale"].shape
    values = paddle.stack([packed % 16, packed // 16], axis=-1).reshape([outputs, groups, -1])
    steps, zeros = (found[name].astype("float32").unsqueeze(-1) for name in ("scale", "zeros"))
    return ((values.astype("float32") - zeros) * steps).flatten(1)


def _laid(values: np.ndarray) -> np.ndarray:
    """Words of numbers `[out, n]`: int32 `[n, out / 8]`."""
    outputs, n = values.shape
    places = values.T.reshape(n, outputs // 8, 8)[..., list(AWQ_ORDER)]
    return words(halves(places.reshape(n, outputs)))


METHODS = {
    "awq": AwqGroups,
    "rtn": PackedGroups,
    "int8": partial(Rows, "int"),
    "fp8": partial(Rows, "float"),
}


def method_of(name: str, group_size: int | None = None, inputs: Collection[int] = ()) -> Method:
    """The method of one of the names `METHODS`.

    Args:
        group_size: inputs that share a scale, of "awq" and "rtn" alone; None for 128, or for less where rows of `inputs` would
            have fewer than eight groups, or no whole ones.

    Raises:
        ConfigurationError: no such method, or a group size that it cannot have.
    """
    if name not in METHODS:
        raise ConfigurationError(f"method is {name!r}: it must be one of {', '.join(METHODS)}.")
    if name in ("int8", "fp8"):
        if group_size is not None:
            raise ConfigurationError(f"group_size is {group_size}, but {name} has a scale an output: leave it out.")
        return METHODS[name]()
    size = _fitting(inputs) if group_size is None else group_size
    if size < GROUPS_OF or size % GROUPS_OF:
        raise ConfigurationError(f"group_size is {size}: give a multiple of {GROUPS_OF}.")
    return METHODS[name](size)


def _fitting(inputs: Collection[int]) -> int:
    fits = [size for size in GROUP_SIZES if all(width % size == 0 and width >= GROUPS * size for width in inputs)]
    return next(iter(fits), GROUP_SIZES[-1])
