"""Attention against the KV cache, compared with loops in float64."""

import numpy as np
import pytest
from machine import INVALID_VALUE, kv_cache
from near import close
from op_definitions import attention

DTYPES = ["float32", "float16", "bfloat16"]
HEADS = [(4, 4), (6, 3), (4, 1), (7, 1), (16, 2), (11, 1)]  # 1, 2, 4, 7, 8 and 11 heads a kv head


def draw(machine, shape, dtype, seed=0):
    return machine.put(np.random.default_rng(seed).normal(size=shape), dtype)


def filled(cache, lengths):
    """The filled slots of cache [B, Hkv, S, D] as packed tokens [sum, Hkv, D]."""
    return np.concatenate([cache[row, :, :length].transpose(1, 0, 2) for row, length in enumerate(lengths)])


def caches(machine, lengths, kv_heads, slots, head_dim, dtype):
    """Keys and values whose slots past the lengths hold anything at all."""
    shape = len(lengths), kv_heads, slots, head_dim
    draws = [np.random.default_rng(seed).normal(size=shape) for seed in (1, 2)]
    for row, length in enumerate(lengths):
        draws[0][row, :, length:] = np.inf
        draws[1][row, :, length:] = np.nan
    return [machine.put(values, dtype) for values in draws]


class Decoding:
    """One query a row, rows of several lengths, on so many multiprocessors that long rows are split."""

    def __init__(self, machine, heads, head_dim, dtype, lengths=(1, 300, 0, 37), slots=310):
        self.machine, self.lengths = machine, list(lengths)
        heads, kv_heads = heads
        self.q = draw(machine, (len(lengths), heads, head_dim), dtype)
        self.k, self.v = caches(machine, lengths, kv_heads, slots, head_dim, dtype)
        self.cache = kv_cache(self.k, self.v)
        self.out = machine.empty(self.q.shape, dtype)

    def run(self):
        rows, heads, head_dim = self.q.shape
        scratch = self.machine.attention_scratch(self.cache, rows, heads)
        lengths = self.machine.put(self.lengths, "int32")
        self.machine.run("decode_attention", self.q, self.cache, lengths, heads, head_dim**-0.5, scratch, self.out)
        scratch.read()

    def check(self):
        k, v = (filled(cache.read(), self.lengths) for cache in (self.k, self.v))
        ones = [1] * len(self.lengths)
        close(self.out, attention(self.q.read(), k, v, ones, self.lengths, False, self.q.shape[-1] ** -0.5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [20, 64, 80, 128, 192, 256])
def test_decode_attention(machine, head_dim, dtype):
    for heads in (HEADS[head_dim // 4 % 3], HEADS[3 + head_dim // 16 % 3]):
        decoding = Decoding(machine, heads, head_dim, dtype)
        decoding.run()
        decoding.check()


@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("head_dim", [64, 128])  # on the CUDA cores, on the tensor cores
@pytest.mark.parametrize("processors", [1, 24, 1000])
def test_every_group_and_number_of_spans(emulator, heads, head_dim, processors):
    emulator.choose("random", processors)
    decoding = Decoding(emulator, heads, head_dim, "float16", lengths=(200, 64, 65, 129), slots=200)
    decoding.run()
    decoding.check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("new", [[3, 20, 0, 7], [1, 1, 1, 1], [0, 0, 0, 2]], ids=str)
@pytest.mark.parametrize("head_dim", [80, 128])
def test_cached_attention(machine, new, head_dim, dtype):
    lengths, heads, tokens = [3, 150, 6, 37], 6, sum(new)
    q = draw(machine, (tokens, heads, head_dim), dtype)
    k, v = caches(machine, lengths, 2, 151, head_dim, dtype)
    cache, out = kv_cache(k, v), machine.empty(q.shape, dtype)
    cu_q, filled_slots = (machine.put(x, "int32") for x in ([0, *np.cumsum(new)], lengths))
    scratch = machine.attention_scratch(cache, tokens, heads)
    machine.run("cached_attention", q, cache, cu_q, filled_slots, tokens, heads, head_dim**-0.5, scratch, out)
    keys, values = (filled(x.read(), lengths) for x in (k, v))
    close(out, attention(q.read(), keys, values, new, lengths, True, head_dim**-0.5))


@pytest.mark.parametrize("head_dim, dtype", [(64, "float32"), (128, "float16")])
def test_scores_far_apart(machine, head_dim, dtype):
    decoding = Decoding(machine, (4, 2), head_dim, dtype, lengths=(130, 70))
    decoding.q = machine.put(decoding.q.read() * 100, dtype)
    decoding.run()
    decoding.check()


def test_lengths_past_the_cache_read_nothing_there(machine):
    decoding = Decoding(machine, (2, 1), 64, "float32", lengths=(9,), slots=9)
    decoding.lengths = [10**6]
    decoding.run()
    decoding.lengths = [9]
    decoding.check()


def test_no_rows(machine):
    decoding = Decoding(machine, (2, 1), 64, "float32", lengths=(3,))
    cache = decoding.cache
    cache.batch = 0
    machine.run("decode_attention", decoding.q, cache, None, 2, 1.0, None, decoding.out)
    assert np.isnan(decoding.out.read()).all()


def test_heads_that_have_no_kernel(emulator):
    decoding = Decoding(emulator, (2, 1), 64, "float32")
    arguments = decoding.q, decoding.cache, decoding.k, 3, 1.0, None, decoding.out
    decoding.cache.kv_heads = 2
    assert emulator.status("decode_attention", *arguments) == INVALID_VALUE
    decoding.cache.kv_heads, decoding.cache.head_dim = 1, 264
    assert emulator.status("decode_attention", *arguments) == INVALID_VALUE
