"""Values are cast exactly, to whatever dtype is asked for."""

import json
import math
from pathlib import Path

import hub_model
import numpy as np
import paddle
import pytest
from hub_model import held_tensors, widened

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.weights.casts import to_bfloat16

CONFIG = hub_model.config()
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
MODEL = Qwen2_5_VLForConditionalGeneration

PLAIN = [0.0, -0.0, 1.0, -1.5, 1 / 3, 3.1415927, 1.00390625, 1.01171875, -1.00390625, 0.1, 2.0**-24, 2.0**-25 * 1.5]
EDGES = [65504.0, 65520.0, 3.4e38, 1e38, -2.3e-38, 1e-40, -6e-8, np.inf, -np.inf, np.nan]
AWKWARD = np.array([*PLAIN, *EDGES], np.float32)
LOW_NAN = np.array([0x7F800001, 0xFF800001, 0x7FC00000], np.uint32).view(np.float32)  # cut to 16 bits, two would be inf


def nearest_bfloat16(value: np.float32) -> int:
    """The bits of the bfloat16 nearest to `value`, the even one of two."""
    down = int(value.view(np.uint32)) >> 16
    exact = [float(np.uint32(bits << 16).view(np.float32)) for bits in (down, down + 1)]
    if np.isinf(exact[1]) and not np.isinf(exact[0]):
        exact[1] = math.copysign(2.0**128, value)  # the value that infinity stands for when rounding
    distance = [abs(float(value) - candidate) for candidate in exact]
    if distance[0] == distance[1]:
        return down + (down & 1)
    return down + (distance[1] < distance[0])


def test_bfloat16_rounds_to_the_nearest_even():
    draws = np.random.default_rng(3).integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    ties = (np.arange(0x3F80, 0x3FA0, dtype=np.uint32) << 16 | 0x8000).view(np.float32)
    values = np.concatenate([AWKWARD[np.isfinite(AWKWARD)], draws[np.isfinite(draws)], ties])
    assert to_bfloat16(values).tolist() == [nearest_bfloat16(value) for value in values]
    assert to_bfloat16(np.array([np.inf, -np.inf], np.float32)).tolist() == [0x7F80, 0xFF80]
    bits = to_bfloat16(np.concatenate([LOW_NAN, [np.float32("nan")]]))
    assert ((bits & 0x7F80 == 0x7F80) & (bits & 0x7F != 0)).all()


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_casts_are_exact(hub_tensors, tmp_path, stored, dtype):
    """Every pair of dtypes, on numbers that round, overflow, underflow or are none."""
    name = "model.norm.weight"
    row = np.concatenate([AWKWARD, LOW_NAN, np.linspace(-3, 3, 48 - len(AWKWARD) - 3, dtype=np.float32)])
    with np.errstate(over="ignore"):
        in_file = {"float32": row, "float16": row.astype(np.float16), "bfloat16": to_bfloat16(row)}[stored]
        exact = widened(in_file) if stored == "bfloat16" else in_file.astype(np.float32)
        wanted = {"float32": exact, "float16": exact.astype(np.float16), "bfloat16": to_bfloat16(exact)}[dtype]
    write_raw(tmp_path / "in", hub_tensors, name, in_file, stored)
    model = MODEL.from_pretrained(tmp_path / "in", dtype=dtype)
    assert {str(p.dtype) for p in model.parameters()} == {f"paddle.{dtype}"}
    held = held_tensors(model, tmp_path / "out")[name]
    as_floats = widened if dtype == "bfloat16" else (lambda values: values.astype(np.float32))
    finite = ~np.isnan(exact)
    np.testing.assert_array_equal(held[finite], wanted[finite])
    assert np.isnan(as_floats(held)[~finite]).all() and (~finite).sum() == 4


def write_raw(folder: Path, tensors: dict, name: str, values: np.ndarray, dtype: str) -> None:
    """A Hub file in which one tensor has values and a dtype of its own; the library's writer has no bfloat16."""
    hub_model.write_config(folder, CONFIG)
    header, parts, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for key, value in (tensors | {name: values}).items():
        kind = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype] if key == name else "F32"
        header[key] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        parts.append(value.tobytes())
        offset += value.nbytes
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def test_dtype_is_what_the_config_says_unless_told(hub_tensors, tmp_path):
    hub_model.write(tmp_path, hub_model.config(torch_dtype="bfloat16"), hub_tensors)
    assert MODEL.from_pretrained(tmp_path).parameters()[0].dtype == paddle.bfloat16
    assert MODEL.from_pretrained(tmp_path, dtype="float32").parameters()[0].dtype == paddle.float32
    with pytest.raises(ConfigurationError, match=r"dtype is 'int8': it must be one of float32, float16, bfloat16"):
        MODEL.from_pretrained(tmp_path, dtype="int8")
    with pytest.raises(ConfigurationError, match=r"quantization is 'int3': it must be one of int8, int4, fp8, or None"):
        MODEL.from_pretrained(tmp_path, quantization="int3")
    assert paddle.get_default_dtype() == "float32"


# ---- .pdparams
