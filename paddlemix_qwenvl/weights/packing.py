"""Weights that are held quantised, as compressed-tensors lays them out in files, and its `quantization_config` for them.

Source: compressed-tensors (`compressors/pack_quantized`, `compressors/naive_quantized`, `quantization/quant_config.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddlemix_qwenvl.dtypes import SAFETENSORS_DTYPES, dtype_name
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.layers.embedding import ParallelLMHead
from paddlemix_qwenvl.layers.formats import Apart, Beside, Dense, Format, Fp8, Int8
from paddlemix_qwenvl.layers.parameter import Piece
from paddlemix_qwenvl.weights.casts import cast
from paddlemix_qwenvl.weights.groups import halves, numbers, words


@dataclass(frozen=True)
class QuantisedModule:
    """A module of the Hub's model whose weight is held quantised.

    Attributes:
        holder: what has the tensors.
        format: how it holds them.
        pieces: which rows of its layer the module is.
        rows: these rows among those of the holder.
    """

    name: str
    holder: Any
    format: Format
    pieces: list[Piece]
    rows: slice

    @property
    def is_linear(self) -> bool:
        """Not an embedding."""
        return self.pieces[0].linear

    def tensors(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Names, dtypes as safetensors calls them, and shapes of what is written of it."""
        outputs, inputs = self.pieces[0].shape
        if not self.is_linear:
            return {"weight": (SAFETENSORS_DTYPES[dtype_name(self.holder.dtype)], (outputs, inputs))}
        if isinstance(self.format, Dense):
            return {"weight": (self._kind("weight"), (outputs, inputs))}
        if isinstance(self.format, Int8):
            return {"weight": ("I8", (outputs, inputs)), "weight_scale": ("F32", (outputs, 1))}
        if isinstance(self.format, Beside):
            groups = self.format.groups
            found = {"weight_packed": ("I32", (outputs, -(-inputs // 4))), "weight_scale": ("F32", (outputs, groups))}
            return self._with_order(found, inputs)
        scale = self._kind("scale")
        if isinstance(self.format, Fp8):
            return {"weight": ("F8_E4M3", (outputs, inputs)), "weight_scale": (scale, (outputs, 1))}
        groups = inputs // self.format.group_size
        found = {"weight_packed": ("I32", (outputs, -(-inputs // 8))), "weight_scale": (scale, (outputs, groups))}
        found |= {"weight_zero_point": ("I32", (-(-outputs // 8), groups))} if self.format.has_zeros else {}
        return self._with_order(found, inputs)

    def _with_order(self, found: dict, inputs: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        found |= {"weight_g_idx": ("I32", (inputs,))} if self.format.has_order else {}
        return found | {"weight_shape": ("I64", (2,))}

    def values(self, tensor: str) -> np.ndarray:
        """One of `tensors`."""
        if not self.is_linear:
            return self._rows()
        if tensor == "weight":
            return self._array("weight")
        if tensor == "weight_g_idx":
            size = self.pieces[0].shape[1] // self._groups()
            return np.argsort(self.holder.order.numpy()).astype(np.int32) // np.int32(size)
        if isinstance(self.format, Beside) and tensor != "weight_shape":
            return self._beside(tensor)
        if tensor == "weight_packed":
            packed = self._array("weight")
            return words(halves(self._in_order(numbers(packed))) if self.format.has_order else packed)
        if tensor == "weight_scale":
            scale = self._array("scale")
            return scale.reshape(len(scale), -1)
        if tensor == "weight_zero_point":
            return words(halves(self._array("zeros").T)).T
        return np.array(self.pieces[0].shape)

    def _rows(self) -> np.ndarray:
        """Those of an embedding that is tied to a quantised head: other readers know it in the model's dtype alone."""
        wide = self._array("weight").astype(np.float32) * self._array("scale")[:, None]
        return cast(wide, False, dtype_name(self.holder.dtype))

    def _kind(self, name: str) -> str:
        return SAFETENSORS_DTYPES[dtype_name(getattr(self.holder, name).dtype)]

    def _array(self, name: str) -> np.ndarray:
        return getattr(self.holder, name)[self.rows].numpy()

    def _groups(self) -> int:
        inputs = self.pieces[0].shape[1]
        return self.format.groups if isinstance(self.format, Beside) else inputs // self.format.group_size

    def _beside(self, tensor: str) -> np.ndarray:
        """The scales, or the numbers with 128 added, of blocks that lie beside one another."""
        blocks = [
            [getattr(block, name)[self.rows].numpy() for block in self.holder.blocks] for name in ("weight", "scale")
        ]
        if tensor == "weight_scale":
            return np.stack(blocks[1], axis=1)
        values = np.concatenate(blocks[0], axis=1).view(np.uint8) ^ 128
        return words(self._in_order(values) if self.format.has_order else values)

    def _in_order(self, values: np.ndarray) -> np.ndarray:
        """Columns as the input has them."""
        return values[:, np.argsort(self.holder.order.numpy())]

    def scheme(self) -> dict[str, Any] | None:
        """compressed-tensors' description of its weight; None for one that is not quantised in the file."""
        if not self.is_linear:
            return None
        common = {"dynamic": False, "symmetric": True, "strategy": "channel", "group_size": None}
        if isinstance(self.format, Int8):
            return {"format": "int-quantized", "weights": {"num_bits": 8, "type": "int", **common}}
        if isinstance(self.format, Fp8):
            return {"format": "float-quantized", "weights": {"num_bits": 8, "type": "float", **common}}
        if isinstance(self.format, Dense):
            return None
        bits = 8 if isinstance(self.format, Beside) else 4
        common["symmetric"] = bits == 8 or not self.format.has_zeros
        if self._groups() > 1:
            common |= {"strategy": "group", "group_size": self.pieces[0].shape[1] // self._groups()}
        if self.format.has_order:
            common["actorder"] = "group"
        return {"format": "pack-quantized", "weights": {"num_bits": bits, "type": "int", **common}}


def quantised_modules(model) -> Iterator[QuantisedModule]:
    """The modules of all layers that hold no dense weight; a tied head is its embedding."""
    for path, layer in model.named_sublayers():
        format = getattr(layer, "format", Dense())
        if format == Int8(arranged=True):
            raise CheckpointError(
                f"{path} holds int8 values in the order of one card's kernel, which cannot be saved: load and save on the CPU."
            )
        if format == Dense() or not hasattr(layer, "pieces") or _is_tied(layer):
            continue
        modules: dict[str, list[Piece]] = {}
        for piece in layer.pieces:
            modules.setdefault(piece.name(f"{path}.weight").removesuffix(".weight"), []).append(piece)
        for name, pieces in modules.items():
            holder, held, rows = _holder(layer, slice(pieces[0].rows.start, pieces[-1].rows.stop))
            yield QuantisedModule(name, holder, held, pieces, rows)


def _is_tied(layer) -> bool:
    """Whether it is a head whose rows are those of the embedding."""
    return isinstance(layer, ParallelLMHead) and layer.is_tied


def _holder(layer, rows: slice) -> tuple[Any, Format, slice]:
    """What holds rows of a layer, how, and which of its own rows these are."""
    if not isinstance(layer.format, Apart):
        return layer, layer.format, rows
    first = 0
    for block, height in zip(layer.blocks, layer.format.heights, strict=True):
        if rows.start < first + height:
            return block, block.format, slice(rows.start - first, rows.stop - first)
        first += height
    raise IndexError(rows)


def quantization_config(model) -> dict[str, Any] | None:
    """The `quantization_config` of a model, None where nothing is quantised."""
    groups: dict[str, dict] = {}
    modules: dict[str, list[str]] = {}
    dense = list(_dense_modules(model))
    for module in quantised_modules(model):
        scheme = module.scheme()
        if scheme is None:
            dense += [module.name] if module.is_linear else []
            continue
        groups[repr(scheme)] = scheme
        modules.setdefault(repr(scheme), []).append(module.name)
    if not groups:
        return None
    everything = [name for names in modules.values() for name in names] + dense
    found = {
        f"group_{index}": {
            "targets": ["Linear"] if len(groups) == 1 else patterns(modules[key], everything),
            **scheme,
            "input_activations": None,
            "output_activations": None,
        }
        for index, (key, scheme) in enumerate(groups.items())
    }
    formats = {group["format"] for group in found.values()}
    return {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "format": formats.pop() if len(formats) == 1 else "mixed-precision",
        "config_groups": found,
        "ignore": patterns(dense, everything),
    }


def _dense_modules(model) -> Iterator[str]:
    """Names of the modules with a Linear weight that is not quantised in the file."""
    for path, layer in model.named_sublayers():
        if _is_tied(layer):
            yield path
        elif getattr(layer, "format", None) == Dense():
            for piece in getattr(layer, "pieces", []):
                if piece.linear:
                    yield piece.name(f"{path}.weight").removesuffix(".weight")


def patterns(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Regular expressions, after "re:" as compressed-tensors has them, that mean `names` and none of the `others` beside them.

    What is alike but for its numbers is one; the beginning of a name, which versions of transformers change, is left open.
    """
    names, found = set(names), []
    for name in sorted(names):
        short = re.escape(name.removeprefix("model."))
        general = re.sub(r"(?<=\\\.)\d+(?=\\\.)", r"\\d+", short)
        alone = not any(re.fullmatch(f".*{general}", other) for other in others if other not in names)
        found.append(f"re:.*{general if alone else short}$")
    return list(dict.fromkeys(found))
