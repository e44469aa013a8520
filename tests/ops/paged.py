"""Rows of a batch in a paged KV cache, in NumPy."""

import numpy as np


class Paged:
    """Keys and values of rows whose blocks lie anywhere; slots that no row has written are infinite or NaN.

    Args:
        lengths: tokens of each row.
        shared: so many whole blocks that a row begins with are the longest row's, too.
        junk: what follows a row's last block in its table; any other's block if None.

    Attributes:
        block_tables: int32 [B, blocks].
        k, v: float64 [N, Hkv, block, D].
    """

    def __init__(self, lengths, kv_heads, head_dim, block_size, shared=0, junk=None):
        self.lengths, self.block_size = list(lengths), block_size
        draws = np.random.default_rng(block_size)
        counts = [-(-length // block_size) for length in lengths]
        blocks = sum(counts) + 3
        self.block_tables = draws.integers(0, blocks, (len(lengths), max(counts) + 2)).astype(np.int32)
        if junk is not None:
            self.block_tables[:] = junk
        free = np.split(draws.permutation(blocks), np.cumsum(counts))
        for row, count in enumerate(counts):
            self.block_tables[row, :count] = free[row]
        longest = int(np.argmax(lengths))
        for row, length in enumerate(lengths):
            same = min(shared, length // block_size)
            self.block_tables[row, :same] = self.block_tables[longest, :same]
        shape = blocks, kv_heads, block_size, head_dim
        self.k, self.v = np.full(shape, np.inf), np.full(shape, np.nan)
        for row, length in enumerate(lengths):
            for cache in (self.k, self.v):
                block, offset = np.divmod(self.slots(row, 0, length), block_size)
                cache[block, :, offset] = draws.normal(size=(length, kv_heads, head_dim))

    def slots(self, row: int, start: int, stop: int) -> np.ndarray:
        """Where tokens `start` to `stop` of a row are."""
        places = np.arange(start, stop)
        return self.block_tables[row, places // self.block_size] * self.block_size + places % self.block_size

    def tokens(self, cache: np.ndarray) -> np.ndarray:
        """All rows' tokens of a cache one after the other, [sum(lengths), Hkv, D]."""
        slots = np.concatenate([self.slots(row, 0, length) for row, length in enumerate(self.lengths)])
        return cache[slots // self.block_size, :, slots % self.block_size]
