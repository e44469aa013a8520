"""Padded batches to packed tokens and back."""

import numpy as np
import pytest


@pytest.mark.parametrize("batch, length", [(1, 1), (3, 7), (2, 2500), (40, 33), (1100, 3), (4, 0), (0, 5)])
def test_padding_offset(machine, batch, length):
    mask = np.random.default_rng(batch).integers(0, 3, (batch, length)) * 100  # any byte but 0 is a token
    if batch > 2:
        mask[1] = 0
    cu_seqlens = machine.empty([batch + 1], "int32")
    machine.run("count_tokens", machine.put(mask, "uint8"), batch, length, cu_seqlens)
    assert cu_seqlens.read().tolist() == [0, *np.cumsum((mask > 0).sum(-1))]
    indices = machine.empty([int((mask > 0).sum())], "int64")
    machine.run("token_indices", machine.put(mask, "uint8"), cu_seqlens, batch, length, indices)
    assert indices.read().tolist() == np.flatnonzero(mask).tolist()


@pytest.mark.parametrize("dtype, width", [("bfloat16", 24), ("bfloat16", 3), ("float32", 2500), ("int64", 1)])
def test_rows_there_and_back(machine, dtype, width):
    draws = np.random.default_rng(0)
    row_bytes = width * {"bfloat16": 2, "float32": 4, "int64": 8}[dtype]
    x = machine.put(draws.normal(0, 100, (9, width)), dtype)
    kept = np.array([0, 2, 3, 8])
    indices = machine.put(kept, "int64")
    packed, padded = machine.empty((4, width), dtype), machine.empty((9, width), dtype)
    machine.run("gather_rows", x, indices, 4, 9, row_bytes, packed)
    assert (packed.read() == x.read()[kept]).all()
    machine.run("scatter_rows", packed, indices, 4, 9, row_bytes, padded)
    wanted = np.zeros_like(x.read())
    wanted[kept] = x.read()[kept]
    assert (padded.read() == wanted).all()


def test_no_rows(machine):
    nothing, y = machine.put(np.zeros((0, 8))), machine.empty((3, 8))
    machine.run("gather_rows", y, machine.put([], "int64"), 0, 3, 32, nothing)
    machine.run("scatter_rows", nothing, machine.put([], "int64"), 0, 3, 32, y)
    assert not y.read().any()


def test_indices_outside(machine):
    x, y = machine.put(np.ones((3, 8))), machine.empty((3, 8))
    indices = machine.put([-1, 1, 3], "int64")
    machine.run("gather_rows", x, indices, 3, 3, 32, y)
    assert y.read().any(-1).tolist() == [False, True, False]
    machine.run("scatter_rows", x, indices, 3, 3, 32, y)
    assert y.read().any(-1).tolist() == [False, True, False]
