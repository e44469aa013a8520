"""Attention against the KV cache, compared with loops in float64."""

import numpy as np
import pytest
from machine import INVALID_VALUE, kv_cache, rows_of
from near import close
from op_definitions import attention, rotate
from paged import Paged

DTYPES = ["float32", "float16", "bfloat16"]
HEADS = [(4, 4), (6, 3), (4, 1), (7, 1), (16, 2), (11, 1)]  # 1, 2, 4, 7, 8 and 11 heads a kv head


def draw(machine, shape, dtype, seed=0):
    return machine.put(np.random.default_rng(seed).normal(size=shape), dtype)


class Cached:
    """Queries of rows of several lengths against a paged cache."""

    def __init__(self, machine, new, lengths, heads, head_dim, dtype, block_size=48, **paged):
        self.machine, self.new = machine, list(new)
        self.paged = Paged(lengths, heads[1], head_dim, block_size, **paged)
        self.q = draw(machine, (sum(new), heads[0], head_dim), dtype)
        self.k, self.v = (machine.put(cache, dtype) for cache in (self.paged.k, self.paged.v))
        self.cache = kv_cache(self.k, self.v)
        self.tables, self.lengths = (machine.put(x, "int32") for x in (self.paged.block_tables, lengths))
        self.rows = rows_of(self.tables, self.lengths)
        self.out = machine.empty(self.q.shape, dtype)

    def scratch(self):
        return self.machine.attention_scratch(self.cache, self.rows, *self.q.shape[:2])

    def decode(self):
        scratch = self.scratch()
        arguments = self.q.shape[1], self.q.shape[2] ** -0.5, scratch, self.out
        self.machine.run("decode_attention", self.q, self.cache, self.rows, *arguments)
        scratch.read()

    def attend(self):
        scratch, cu_q = self.scratch(), self.machine.put([0, *np.cumsum(self.new)], "int32")
        arguments = *self.q.shape[:2], self.q.shape[2] ** -0.5, scratch, self.out
        self.machine.run("cached_attention", self.q, self.cache, self.rows, cu_q, *arguments)
        scratch.read()

    def write_and_decode(self):
        """Of packed tokens whose keys and values are not in the cache yet; all as two kernels do it, bit for bit."""
        rows, heads, head_dim = self.q.shape
        kv_heads, dtype = self.cache.kv_heads, self.q.dtype
        qkv = draw(self.machine, (rows, (heads + 2 * kv_heads) * head_dim), dtype, 5)
        angles = np.random.default_rng(6).uniform(-6, 6, (rows, head_dim // 2))
        tables = [self.machine.put(turned(angles)) for turned in (np.cos, np.sin)]
        ends = enumerate(self.paged.lengths)
        last = [self.paged.slots(row, length - 1, length)[0] if length else -1 for row, length in ends]
        slots = self.machine.put(last, "int32")
        caches = [self.machine.put(cache.read(), dtype) for cache in (self.k, self.v)]  # for the two
        wanted, scale = self.machine.empty(self.out.shape, dtype), head_dim**-0.5
        self.machine.run("qkv_write_cache", qkv, *tables, kv_cache(*caches), slots, rows, heads, self.q)
        arguments = heads, scale, self.scratch(), wanted
        self.machine.run("decode_attention", self.q, kv_cache(*caches), self.rows, *arguments)
        scratch = self.scratch()
        arguments = slots, self.rows, heads, scale, scratch, self.out
        self.machine.run("qkv_decode_attention", qkv, *tables, self.cache, *arguments)
        scratch.read()
        for found, same in zip((self.k, self.v, self.out), (*caches, wanted), strict=True):
            np.testing.assert_array_equal(found.read(), same.read())
        q = qkv.read()[:, : heads * head_dim].reshape(self.q.shape)
        close(self.q, rotate(q, *(table.read() for table in tables)))

    def check(self):
        k, v = (self.paged.tokens(cache.read()) for cache in (self.k, self.v))
        close(self.out, attention(self.q.read(), k, v, self.new, self.paged.lengths, True, self.q.shape[-1] ** -0.5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [20, 64, 80, 128, 192, 256])
def test_decode_attention(machine, head_dim, dtype):
    """On so many multiprocessors that long rows are split."""
    for heads in (HEADS[head_dim // 4 % 3], HEADS[3 + head_dim // 16 % 3]):
        cached = Cached(machine, [1] * 4, [1, 300, 0, 37], heads, head_dim, dtype)
        cached.decode()
        cached.check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [20, 64, 80, 128, 256])
def test_qkv_decode_attention(machine, head_dim, dtype):
    for heads in (HEADS[head_dim // 4 % 3], HEADS[3 + head_dim // 16 % 3]):
        cached = Cached(machine, [1] * 4, [1, 300, 0, 65], heads, head_dim, dtype)
        cached.write_and_decode()
        cached.check()


@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 0), (9, 0)], ids=str)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("block_size", [1, 48, 64])
def test_qkv_decode_attention_of_rows_that_share_blocks(emulator, block_size, dtype, capability):
    """Of 11 heads a kv head, which two blocks share that both write its key and value."""
    emulator.choose("random", 24, capability)
    cached = Cached(emulator, [1] * 3, [150, 65, 129], (11, 1), 128, dtype, block_size, shared=1, junk=-7)
    cached.write_and_decode()
    cached.check()


def test_a_token_without_a_slot_is_written_nowhere(machine):
    cached = Cached(machine, [1], [40], (2, 1), 64, "float16", 16)
    before, qkv = cached.k.read(), draw(machine, (1, 4 * 64), "float16")
    tables = [machine.put(np.zeros((1, 32))) for _ in range(2)]
    for slot in (-1, before[:, 0, :, 0].size):
        arguments = machine.put([slot], "int32"), cached.rows, 2, 0.125, cached.scratch(), cached.out
        machine.run("qkv_decode_attention", qkv, *tables, cached.cache, *arguments)
    np.testing.assert_array_equal(cached.k.read(), before)


@pytest.mark.parametrize("block_size", [1, 16, 48, 64, 120])
@pytest.mark.parametrize("head_dim", [64, 128])  # on the CUDA cores, on the tensor cores
@pytest.mark.parametrize("junk", [None, -7, 2**31 - 1])
def test_blocks_of_every_size_that_rows_share(emulator, junk, head_dim, block_size):
    """What follows a row's last block in its table is not looked at."""
    emulator.choose("random", 4)
    cached = Cached(emulator, [1, 1, 1], [150, 37, 129], (6, 3), head_dim, "bfloat16", block_size, shared=2, junk=junk)
    cached.decode()
    cached.check()


@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("processors", [1, 24, 1000])
def test_every_group_and_number_of_spans(emulator, heads, head_dim, processors):
    emulator.choose("random", processors)
    cached = Cached(emulator, [1] * 4, [200, 64, 65, 129], heads, head_dim, "float16")
    cached.decode()
    cached.check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("new", [[3, 20, 0, 1], [1, 1, 1, 1], [0, 0, 0, 2]], ids=str)
@pytest.mark.parametrize("head_dim", [80, 128])
def test_cached_attention(machine, new, head_dim, dtype):
    cached = Cached(machine, new, [3, 150, 6, 37], (6, 2), head_dim, dtype, 16)
    cached.attend()
    cached.check()


@pytest.mark.parametrize("head_dim, dtype", [(64, "float32"), (128, "float16")])
def test_scores_far_apart(machine, head_dim, dtype):
    cached = Cached(machine, [1, 1], [130, 70], (4, 2), head_dim, dtype)
    cached.q = machine.put(cached.q.read() * 100, dtype)
    cached.decode()
    cached.check()


def test_lengths_past_the_table_read_nothing_there(machine):
    cached = Cached(machine, [1], [9], (2, 1), 64, "float32", 3)
    cached.tables = machine.put(cached.paged.block_tables[:, :3], "int32")
    cached.lengths = machine.put([10**6], "int32")
    cached.rows = rows_of(cached.tables, cached.lengths)
    cached.decode()
    cached.check()


@pytest.mark.parametrize("head_dim, dtype", [(64, "float32"), (128, "float16")])
@pytest.mark.parametrize("block", [-1, 6, 2**31 - 1])
def test_tokens_of_a_block_that_the_cache_has_not_got_are_not_seen(machine, block, head_dim, dtype):
    cached = Cached(machine, [1], [40], (2, 1), head_dim, dtype, 16)
    tables = cached.paged.block_tables.copy()
    tables[0, 1] = block
    cached.tables = machine.put(tables, "int32")
    cached.rows = rows_of(cached.tables, cached.lengths)
    cached.decode()
    k, v = (np.delete(cached.paged.tokens(x.read()), range(16, 32), axis=0) for x in (cached.k, cached.v))
    close(cached.out, attention(cached.q.read(), k, v, [1], [24], False, head_dim**-0.5))


def test_no_rows(machine):
    cached = Cached(machine, [1], [3], (2, 1), 64, "float32")
    cached.rows.count = 0
    machine.run("decode_attention", cached.q, cached.cache, cached.rows, 2, 1.0, None, cached.out)
    assert np.isnan(cached.out.read()).all()


@pytest.mark.parametrize("name, value", [("kv_heads", 2), ("head_dim", 264), ("block_size", 0), ("blocks", 2**31)])
def test_caches_that_have_no_kernel(emulator, name, value):
    cached = Cached(emulator, [1, 1], [3, 4], (3, 1), 64, "float32")
    setattr(cached.cache, name, value)
    arguments = cached.q, cached.cache, cached.rows, 3, 1.0, None, cached.out
    assert emulator.status("decode_attention", *arguments) == INVALID_VALUE


def test_an_odd_head_is_not_turned(emulator):
    cached = Cached(emulator, [1], [3], (2, 1), 5, "float32")
    x, slots = cached.q, emulator.put([2], "int32")
    arguments = x, x, x, cached.cache, slots, cached.rows, 2, 1.0, None, cached.out
    assert emulator.status("qkv_decode_attention", *arguments) == INVALID_VALUE
