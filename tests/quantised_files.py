"""Quantised weights as other tools lay them out in files, written from the formats' facts by loops that share nothing with the
package: numbers of 4 bits are put in their places one at a time.
"""

import json
from pathlib import Path

import hub_model
import numpy as np

DTYPES = {"float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "int8": "I8", "uint8": "F8_E4M3"}
ONES = {4: 0x11111111, 8: 0x01010101}
CONFIG = hub_model.config(
    hidden_size=64,
    intermediate_size=96,
    rope_scaling={"type": "mrope", "mrope_section": [2, 3, 3]},
    vision_config={"out_hidden_size": 64},
)
"""Of a small model whose groups of 32 inputs fit."""
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def grouped(weight: np.ndarray, group_size: int, symmetric: bool, order: np.ndarray | None = None, bits: int = 4):
    """4 or 8 bits a number: `q` `[out, in]`, `scale` float16 and `zeros` `[out, groups]`, and the group of each column."""
    outputs, inputs = weight.shape
    groups = np.arange(inputs) // group_size
    if order is not None:
        groups = groups[order]
    count = inputs // group_size
    scale, zeros = np.empty((outputs, count), np.float16), np.full((outputs, count), 1 << (bits - 1), np.int64)
    for group in range(count):
        part = weight[:, groups == group]
        if symmetric:
            scale[:, group] = np.abs(part).max(1) / (2 ** (bits - 1) - 1) + 1e-4
        else:
            low, high = part.min(1), part.max(1)
            scale[:, group] = (high - low) / 15 + 1e-4
            zeros[:, group] = np.clip(np.round(-low / scale[:, group]), 0, 15)
    q = np.clip(np.round(weight / scale[:, groups].astype(np.float32)) + zeros[:, groups], 0, 2**bits - 1).astype(
        np.int64
    )
    return q, scale, zeros, groups


def value(q, scale, zeros, groups) -> np.ndarray:
    """What the numbers stand for, exactly, in float32."""
    return ((q - zeros[:, groups]) * scale[:, groups].astype(np.float64)).astype(np.float32)


def words(numbers: np.ndarray, places=tuple(range(8)), bits: int = 4) -> np.ndarray:
    """int32 `[n, m / 8]`: number `places[i]` of each eight in half-byte i, counted from the lowest; the last word is filled up.
    Of 8 bits there are four.
    """
    (n, m), size = numbers.shape, 32 // bits
    found = np.zeros((n, -(-m // size)), np.uint32)
    for column in range(m):
        found[:, column // size] |= numbers[:, column].astype(np.uint32) << np.uint32(
            bits * places.index(column % size)
        )
    return found.view(np.int32)


def awq(weight, group_size):
    """AutoAWQ's tensors, and the weight that they stand for."""
    made = grouped(weight, group_size, symmetric=False)
    q, scale, zeros, _ = made
    tensors = {"qweight": words(q.T, AWQ_ORDER), "qzeros": words(zeros.T, AWQ_ORDER), "scales": scale.T}
    return tensors, value(*made)


def gptq(weight, group_size, symmetric=True, version=1, act_order=None, bits=4):
    """AutoGPTQ's, and GPTQModel's of version 2."""
    made = grouped(weight, group_size, symmetric, act_order, bits)
    q, scale, zeros, groups = made
    tensors = {
        "qweight": words(q, bits=bits).T,
        "qzeros": (words(zeros.T, bits=bits).view(np.uint32) - np.uint32(ONES[bits] * (version == 1))).view(np.int32),
        "scales": scale.T,
        "g_idx": groups.astype(np.int32),
    }
    return tensors, value(*made)


def packed(weight, group_size, symmetric=True, act_order=None, bits=4):
    """compressed-tensors' "pack-quantized"."""
    made = grouped(weight, group_size, symmetric, act_order, bits)
    q, scale, zeros, groups = made
    tensors = {"weight_packed": words(q, bits=bits), "weight_scale": scale, "weight_shape": np.array(weight.shape)}
    if not symmetric:
        tensors["weight_zero_point"] = words(zeros.T).T
    if act_order is not None:
        tensors["weight_g_idx"] = groups.astype(np.int32)
    return tensors, value(*made)


def int8(weight, strategy="channel"):
    """compressed-tensors' "int-quantized"."""
    largest = np.abs(weight).max(1, keepdims=True) if strategy == "channel" else np.abs(weight).max().reshape(1)
    scale = (largest / 127 + 1e-4).astype(np.float16)
    q = np.clip(np.round(weight / scale.astype(np.float32)), -128, 127).astype(np.int8)
    return {"weight": q, "weight_scale": scale}, q * scale.astype(np.float32)


def float8_values() -> np.ndarray:
    """What the 254 patterns of e4m3 that are numbers are worth, by pattern; the others are NaN."""
    found = np.empty(256, np.float32)
    for bits in range(256):
        sign, exponent, mantissa = bits >> 7, bits >> 3 & 15, bits & 7
        size = mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
        found[bits] = np.nan if bits & 127 == 127 else -size if sign else size
    return found


def float8(weight, strategy="channel"):
    """compressed-tensors' "float-quantized"; the bits as uint8, which a file's header is to call F8_E4M3."""
    largest = np.abs(weight).max(1, keepdims=True) if strategy == "channel" else np.abs(weight).max().reshape(1)
    scale = (largest / 448 + 1e-5).astype(np.float16)
    values = float8_values()
    known = np.where(np.isnan(values), np.inf, values)
    bits = np.abs(known - (weight / scale.astype(np.float32))[..., None]).argmin(-1).astype(np.uint8)
    return {"weight": bits, "weight_scale": scale}, values[bits] * scale.astype(np.float32)


def _eight_bits(format: str, kind: str) -> dict:
    """compressed-tensors' way to say it: a scale an output channel, and one a token of activations."""
    weights = {"num_bits": 8, "type": kind, "symmetric": True, "strategy": "channel"}
    activations = {"num_bits": 8, "type": kind, "dynamic": True, "strategy": "token"}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    settings = {"quant_method": "compressed-tensors", "format": format, "config_groups": {"group_0": group}}
    return {**settings, "ignore": ["lm_head", "re:visual.*"]}


METHODS = {
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True},
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True},
    "packed": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32},
            }
        },
        "ignore": ["lm_head", "re:.*visual.*"],
    },
    "int8": _eight_bits("int-quantized", "int"),
    "fp8": _eight_bits("float-quantized", "float"),
}
"""A `quantization_config` of each tool, as it writes it."""

QUANTISE = {
    "awq": lambda name, w: awq(w, 32),
    "gptq": lambda name, w: gptq(w, 32),
    "packed": lambda name, w: packed(w, 32),
    "int8": lambda name, w: int8(w),
    "fp8": lambda name, w: float8(w),
}
"""What each makes of a weight: the tensors of a file, and the dense weight that they stand for."""


def converted(tensors: dict, quantise, wanted) -> tuple[dict, dict]:
    """A checkpoint with the weights of some modules quantised, and the dense one that it stands for.

    Args:
        quantise: one of the functions above, of a module's name and weight.
        wanted: of a module's name, whether it is quantised.
    """
    narrow, wide = dict(tensors), dict(tensors)
    for name, weight in tensors.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "weight" and weight.ndim == 2 and wanted(module):
            made, wide[name] = quantise(module, weight)
            del narrow[name]
            narrow |= {f"{module}.{leaf}": value for leaf, value in made.items()}
    return narrow, wide


def in_decoder(module: str) -> bool:
    """Whether a module is a Linear of one of the language model's blocks."""
    return ("layers." in module or ".h." in module) and "visual" not in module and "norm" not in module


def write(folder: Path, config: dict, tensors: dict, file: str = "model.safetensors") -> Path:
    """config.json and one weight file; what is called `weight` and is uint8 is float8."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, value in tensors.items():
        kind = DTYPES[value.dtype.name]
        content = np.ascontiguousarray(value).tobytes()
        header[name] = {
            "dtype": kind,
            "shape": list(value.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    (folder / file).write_bytes(len(text).to_bytes(8, "little") + text + data)
    return folder
