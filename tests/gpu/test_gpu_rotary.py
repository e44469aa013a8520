"""Rotary embedding, the split of packed qkv and the KV cache against their definitions."""

import numpy as np
import pytest
from machine import INVALID_VALUE, kv_cache
from near import close
from op_definitions import rotate

DTYPES = ["float32", "float16", "bfloat16"]
SIZES = [20, 64, 80, 128]  # of a head
HEADS = [(4, 4), (6, 2), (7, 1)]


def draw(machine, shape, dtype="float32", seed=0):
    return machine.put(np.random.default_rng(seed).normal(size=shape), dtype)


def tables(machine, tokens, head_dim):
    angles = np.random.default_rng(9).uniform(-6, 6, (tokens, head_dim // 2))
    return machine.put(np.cos(angles)), machine.put(np.sin(angles))


def split(qkv, cos, sin, heads, kv_heads):
    """Rotated q and k, and v, of packed qkv [T, (H + 2 Hkv) D]."""
    parts = qkv.read().reshape(qkv.shape[0], heads + 2 * kv_heads, 2 * cos.shape[1])
    q, k, v = np.split(parts, [heads, heads + kv_heads], axis=1)
    return rotate(q, cos.read(), sin.read()), rotate(k, cos.read(), sin.read()), v


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", SIZES)
def test_rotary(machine, head_dim, dtype):
    tokens, (heads, kv_heads) = 5, HEADS[head_dim % 3]
    q, k = draw(machine, (tokens, heads, head_dim), dtype), draw(machine, (tokens, kv_heads, head_dim), dtype, 1)
    cos, sin = tables(machine, tokens, head_dim)
    wanted = [rotate(x.read(), cos.read(), sin.read()) for x in (q, k)]
    outputs = [machine.empty(x.shape, dtype) for x in (q, k)]
    for found in (outputs, (q, k)):  # the last into the inputs themselves
        machine.run("rotary", q, k, cos, sin, dtype, tokens, heads, kv_heads, head_dim, *found)
        close(found[0], wanted[0])
        close(found[1], wanted[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", SIZES)
@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_qkv_split(machine, tokens, head_dim, dtype):
    heads, kv_heads = HEADS[head_dim % 3]
    qkv = draw(machine, (tokens, (heads + 2 * kv_heads) * head_dim), dtype)
    cos, sin = tables(machine, tokens, head_dim)
    found = [machine.empty((tokens, count, head_dim), dtype) for count in (heads, kv_heads, kv_heads)]
    machine.run("qkv_split", qkv, cos, sin, dtype, tokens, heads, kv_heads, head_dim, *found)
    for array, wanted in zip(found, split(qkv, cos, sin, heads, kv_heads), strict=True):
        close(array, wanted)


class Cached:
    """Five tokens for a cache of three blocks of seven slots; two of them have no place there."""

    SLOTS = (20, 0, 10, 21, -1)
    PLACED = (0, 1, 2)
    SHAPE = 3, 2, 7

    def __init__(self, machine, head_dim, dtype):
        self.k, self.v = (draw(machine, (*self.SHAPE, head_dim), dtype, seed) for seed in (7, 8))
        self.before = self.k.read(), self.v.read()
        self.slots = machine.put(self.SLOTS, "int32")
        self.structure = kv_cache(self.k, self.v)

    def check(self, k, v):
        """`k` and `v` [5, 2, D] have arrived, and nothing else has changed."""
        for cache, before, new in zip((self.k, self.v), self.before, (k, v), strict=True):
            for token in self.PLACED:
                block, offset = divmod(self.SLOTS[token], self.SHAPE[2])
                before[block, :, offset] = new[token]
            close(cache, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [*SIZES, 5])
def test_write_cache(machine, head_dim, dtype):
    cache = Cached(machine, head_dim, dtype)
    k, v = (draw(machine, (5, 2, head_dim), dtype, seed) for seed in (1, 2))
    machine.run("write_cache", k, v, cache.structure, cache.slots, 5)
    cache.check(k.read(), v.read())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", SIZES)
def test_qkv_write_cache(machine, head_dim, dtype):
    cache = Cached(machine, head_dim, dtype)
    qkv, q = draw(machine, (5, 10 * head_dim), dtype), machine.empty((5, 6, head_dim), dtype)
    cos, sin = tables(machine, 5, head_dim)
    machine.run("qkv_write_cache", qkv, cos, sin, cache.structure, cache.slots, 5, 6, q)
    wanted, k, v = split(qkv, cos, sin, 6, 2)
    close(q, wanted)
    cache.check(k, v)


def test_an_odd_head(machine):
    x = draw(machine, (1, 1, 5))
    assert machine.status("rotary", x, x, x, x, "float32", 1, 1, 1, 5, x, x) == INVALID_VALUE
    assert machine.status("rotary", x, x, x, x, 7, 1, 1, 1, 4, x, x) == INVALID_VALUE
