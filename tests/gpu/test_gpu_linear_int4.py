"""The CUDA products with int4 weights against their definition in float64."""

import numpy as np
import pytest
from machine import INVALID_VALUE, int4_weight
from near import TOLERANCE, close

DTYPES = ["float32", "float16", "bfloat16"]
SIZES = [(32, 32, 5), (96, 32, 1), (128, 128, 40), (288, 96, 17), (1184, 1184, 6), (2560, 128, 19), (1088, 64, 33)]
"""Inputs, inputs of a group, outputs."""


def int4(machine, inputs, group_size, outputs, with_zeros=True, dtype="float16"):
    """Such a weight's structure, its arrays, which keep the memory, and its numbers."""
    draws = np.random.default_rng(inputs)
    steps, groups = draws.integers(0, 16, (outputs, inputs)), inputs // group_size
    zeros = draws.integers(0, 16, (outputs, groups)) if with_zeros else np.full((outputs, groups), 8)
    scale = machine.put(draws.uniform(0.5, 1.5, (outputs, groups)) / np.sqrt(inputs), dtype)
    arrays = machine.put(steps[:, ::2] + 16 * steps[:, 1::2], "uint8"), scale
    arrays += (machine.put(zeros, "uint8") if with_zeros else None,)
    numbers = (steps - zeros.repeat(group_size, 1)) * scale.read().repeat(group_size, 1)
    return int4_weight(*arrays), arrays, numbers


def product(machine, weight, x, bias):
    y = machine.empty((x.shape[0], weight.n), x.dtype)
    machine.run("linear_int4", x, weight, bias, x.dtype, x.shape[0], y)
    return y


def check(machine, inputs, group_size, outputs, dtype, rows, with_zeros, scale_dtype):
    weight, _arrays, numbers = int4(machine, inputs, group_size, outputs, with_zeros, scale_dtype)
    draws = np.random.default_rng(rows)
    x, bias = machine.put(draws.normal(size=(rows, inputs)), dtype), None
    if with_zeros:
        bias = machine.put(draws.normal(size=outputs), dtype)
    y = machine.empty((rows, outputs), dtype)
    machine.run("linear_int4", x, weight, bias, dtype, rows, y)
    wanted = x.read() @ numbers.T + (0 if bias is None else bias.read())
    sums = np.abs(x.read()) @ np.abs(numbers).T
    assert (np.abs(y.read() - wanted) <= 2e-6 * sums + TOLERANCE[dtype] / 2 * np.abs(wanted) + 1e-7).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inputs, group_size, outputs", SIZES)
def test_few_rows(machine, inputs, group_size, outputs, dtype):
    for rows, with_zeros, scale_dtype in [
        (0, False, "float16"),
        (1, True, "float16"),
        (9, False, "float32"),
        (19, True, "bfloat16"),
    ]:
        check(machine, inputs, group_size, outputs, dtype, rows, with_zeros, scale_dtype)


@pytest.mark.parametrize("capability, dtype", [((7, 0), "float16"), ((7, 5), "float16"), ((7, 5), "bfloat16")])
def test_few_rows_on_older_gpus(emulator, capability, dtype):
    emulator.choose("random", capability=capability)
    for rows in (1, 8, 32):
        check(emulator, 288, 96, 17, dtype, rows, True, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inputs, group_size, outputs", SIZES)
def test_dequantize(machine, inputs, group_size, outputs, dtype):
    weight, _arrays, numbers = int4(machine, inputs, group_size, outputs, inputs % 64 == 0)
    found = machine.empty((outputs, inputs), dtype)
    machine.run("dequantize_int4", weight, dtype, found)
    np.testing.assert_allclose(found.read(), numbers, rtol=TOLERANCE[dtype] / 2)


def test_gather_columns(machine):
    x, order = machine.put(np.arange(12.0).reshape(3, 4), "bfloat16"), machine.put([2, -1, 0, 4], "int32")
    y = machine.empty((3, 4), "bfloat16")
    machine.run("gather_columns", x, order, "bfloat16", 3, 4, y)
    close(y, [[2, 0, 0, 0], [6, 0, 4, 0], [10, 0, 8, 0]])


def test_what_there_is_no_kernel_for(machine):
    weight, _arrays, _ = int4(machine, 64, 32, 3)
    x, y = machine.put(np.zeros((33, 64))), machine.empty((33, 3))
    assert machine.status("linear_int4", x, weight, None, "float32", 33, y) == INVALID_VALUE
    for name, value in (("group", 0), ("group", 16), ("group", 96), ("k", 48)):
        weight, _arrays, _ = int4(machine, 64, 32, 3)
        setattr(weight, name, value)
        assert machine.status("linear_int4", x, weight, None, "float32", 1, y) == INVALID_VALUE
        assert machine.status("dequantize_int4", weight, "float32", y) == INVALID_VALUE
