"""The CUDA products with int4, int8 and fp8 weights against their definitions in float64."""

import numpy as np
import pytest
from machine import INVALID_VALUE, byte_weight, int4_weight
from near import TOLERANCE, close

DTYPES = ["float32", "float16", "bfloat16"]
INT4 = [(32, 32, 5), (96, 32, 1), (128, 128, 40), (288, 96, 17), (1184, 1184, 6), (2560, 128, 19), (1088, 64, 33)]
"""Inputs, inputs of a group, outputs."""
BYTES = [(32, 5), (96, 1), (128, 40), (2208, 19)]
"""Inputs, outputs."""


class Weight:
    """A weight on a machine.

    Attributes:
        kind: of its functions.
        structure: what they take.
        numbers: what it stands for, [out, in].
    """

    def product(self, machine, x, bias=None):
        y = machine.empty((x.shape[0], self.numbers.shape[0]), x.dtype)
        machine.run(f"linear_{self.kind}", x, self.structure, bias, x.dtype, x.shape[0], y)
        return y.read()

    def dequantized(self, machine, dtype):
        y = machine.empty(self.numbers.shape, dtype)
        machine.run(f"dequantize_{self.kind}", self.structure, dtype, y)
        return y.read()

    def check(self, machine, dtype, rows, with_bias):
        draws = np.random.default_rng(rows)
        outputs, inputs = self.numbers.shape
        x = machine.put(draws.normal(size=(rows, inputs)), dtype)
        bias = machine.put(draws.normal(size=outputs), dtype) if with_bias else None
        wanted = x.read() @ self.numbers.T + (bias.read() if with_bias else 0)
        bound = 2e-6 * np.abs(x.read()) @ np.abs(self.numbers).T + TOLERANCE[dtype] / 2 * np.abs(wanted) + 1e-7
        assert (np.abs(self.product(machine, x, bias) - wanted) <= bound).all()


class Int4(Weight):
    kind = "int4"

    def __init__(self, machine, inputs, group_size, outputs, with_zeros=True, dtype="float16"):
        draws = np.random.default_rng(inputs)
        steps, groups = draws.integers(0, 16, (outputs, inputs)), inputs // group_size
        zeros = draws.integers(0, 16, (outputs, groups)) if with_zeros else np.full((outputs, groups), 8)
        self.scale = machine.put(draws.uniform(0.5, 1.5, (outputs, groups)) / np.sqrt(inputs), dtype)
        self.values = machine.put(steps[:, ::2] + 16 * steps[:, 1::2], "uint8")
        self.zeros = machine.put(zeros, "uint8") if with_zeros else None
        self.structure = int4_weight(self.values, self.scale, self.zeros)
        self.numbers = (steps - zeros.repeat(group_size, 1)) * self.scale.read().repeat(group_size, 1)


class Int8(Weight):
    kind = "int8"

    def __init__(self, machine, values, dtype="float32"):
        outputs, inputs = values.shape
        scale = np.random.default_rng(inputs).uniform(0.5, 1.5, outputs) / 64
        self.values, self.scale = machine.put(values, "int8"), machine.put(scale, dtype)
        self.structure = byte_weight(self.values, self.scale)
        self.numbers = values * self.scale.read()[:, None]


class Fp8(Weight):
    kind = "fp8"

    def __init__(self, machine, bits, dtype="float16"):
        outputs, inputs = bits.shape
        scale = np.random.default_rng(inputs).uniform(0.5, 1.5, outputs) / 64
        self.values, self.scale = machine.put(bits, "uint8"), machine.put(scale, dtype)
        self.structure = byte_weight(self.values, self.scale)
        self.numbers = e4m3(bits) * self.scale.read()[:, None]


def e4m3(bits) -> np.ndarray:
    """arXiv:2209.05433, table 1, in float64."""
    sign, exponent, fraction = 1 - 2.0 * (bits >> 7), (bits >> 3 & 15).astype(float), (bits & 7).astype(float)
    value = np.where(exponent == 0, fraction * 2.0**-9, (1 + fraction / 8) * 2.0 ** (exponent - 7))
    return sign * np.where((bits & 127) == 127, np.nan, value)


def draw_fp8(machine, inputs, outputs, dtype="float16"):
    bits = np.arange(256)
    return Fp8(machine, np.random.default_rng(outputs).choice(bits[(bits & 127) != 127], (outputs, inputs)), dtype)


def draw_int8(machine, inputs, outputs, dtype="float32"):
    return Int8(machine, np.random.default_rng(outputs).integers(-128, 128, (outputs, inputs)), dtype)


CASES = [(0, False, "float16"), (1, True, "float16"), (9, False, "float32"), (19, True, "bfloat16")]
"""Rows, whether with zeros or a bias, what scales are in."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inputs, group_size, outputs", INT4)
def test_few_rows_by_int4(machine, inputs, group_size, outputs, dtype):
    for rows, more, scale in CASES:
        Int4(machine, inputs, group_size, outputs, more, scale).check(machine, dtype, rows, more)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("draw", [draw_int8, draw_fp8])
@pytest.mark.parametrize("inputs, outputs", BYTES)
def test_few_rows_by_bytes(machine, draw, inputs, outputs, dtype):
    for rows, more, scale in CASES:
        draw(machine, inputs, outputs, scale).check(machine, dtype, rows, more)


@pytest.mark.parametrize("capability, dtype", [((7, 0), "float16"), ((7, 5), "float16"), ((7, 5), "bfloat16")])
def test_few_rows_on_older_gpus(emulator, capability, dtype):
    emulator.choose("random", capability=capability)
    for rows in (1, 8, 32):
        Int4(emulator, 288, 96, 17).check(emulator, dtype, rows, True)
        draw_fp8(emulator, 288, 17).check(emulator, dtype, rows, True)
        draw_int8(emulator, 288, 17).check(emulator, dtype, rows, True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_fp8(machine, dtype):
    """One input apiece is not zero: products are the numbers, and what is none spoils its output alone."""
    weight = Fp8(machine, np.arange(256).reshape(8, 32), "float32")
    np.testing.assert_allclose(weight.dequantized(machine, dtype), weight.numbers, rtol=TOLERANCE[dtype] / 2)
    finite, x = weight.numbers.copy(), machine.put(np.eye(32), dtype)
    spoiled = np.isnan(finite).any(1)
    found = weight.product(machine, x)
    np.testing.assert_allclose(found[:, ~spoiled], finite.T[:, ~spoiled], rtol=TOLERANCE[dtype] / 2)
    assert np.isnan(found[:, spoiled]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_int8(machine, dtype):
    weight = Int8(machine, np.arange(-128, 128).reshape(8, 32))
    np.testing.assert_allclose(weight.dequantized(machine, dtype), weight.numbers, rtol=TOLERANCE[dtype] / 2)
    found = weight.product(machine, machine.put(np.eye(32), dtype))
    np.testing.assert_allclose(found, weight.numbers.T, rtol=TOLERANCE[dtype] / 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inputs, group_size, outputs", INT4)
def test_dequantize_int4(machine, inputs, group_size, outputs, dtype):
    weight = Int4(machine, inputs, group_size, outputs, inputs % 64 == 0)
    np.testing.assert_allclose(weight.dequantized(machine, dtype), weight.numbers, rtol=TOLERANCE[dtype] / 2)


def test_gather_columns(machine):
    x, order = machine.put(np.arange(12.0).reshape(3, 4), "bfloat16"), machine.put([2, -1, 0, 4], "int32")
    y = machine.empty((3, 4), "bfloat16")
    machine.run("gather_columns", x, order, "bfloat16", 3, 4, y)
    close(y, [[2, 0, 0, 0], [6, 0, 4, 0], [10, 0, 8, 0]])


@pytest.mark.parametrize(
    "kind, changes",
    [("int4", {"group": 16}), ("int4", {"group": 96}), *((kind, {"k": 48}) for kind in ("int4", "int8", "fp8"))],
)
def test_what_there_is_no_kernel_for(machine, kind, changes):
    draw = {"int4": lambda *_: Int4(machine, 64, 32, 3), "int8": draw_int8, "fp8": draw_fp8}[kind]
    weight = draw(machine, 64, 3)
    x, y = machine.put(np.zeros((33, 64))), machine.empty((33, 64))
    assert machine.status(f"linear_{kind}", x, weight.structure, None, "float32", 33, y) == INVALID_VALUE
    for name, value in changes.items():
        setattr(weight.structure, name, value)
    assert machine.status(f"linear_{kind}", x, weight.structure, None, "float32", 1, y) == INVALID_VALUE
    assert machine.status(f"dequantize_{kind}", weight.structure, "float32", y) == INVALID_VALUE
