"""The paged key-value cache of all layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import paddle

from paddlemix_qwenvl.device import to_device


@dataclass
class KVCache:
    """Keys and values of all layers in blocks of slots; which block belongs to whom, the owner knows.

    Attributes:
        keys: one `[blocks, kv_heads, block_size, head_dim]` tensor a layer.
        values: the same.
    """

    keys: list
    values: list

    @classmethod
    def allocate(
        cls, layers: int, num_blocks: int, kv_heads: int, block_size: int, head_dim: int, dtype: str
    ) -> KVCache:
        """A cache of `2 * layers * num_blocks * kv_heads * block_size * head_dim` numbers that are not set."""
        shape = [num_blocks, kv_heads, block_size, head_dim]
        keys, values = ([paddle.empty(shape, dtype) for _ in range(layers)] for _ in range(2))
        return cls(keys, values)

    @property
    def num_blocks(self) -> int:
        """Blocks there are."""
        return self.keys[0].shape[0]

    @property
    def block_size(self) -> int:
        """Slots of a block."""
        return self.keys[0].shape[2]

    def copy_blocks(self, pairs: list[tuple[int, int]]) -> None:
        """Make of each pair's second block a copy of its first."""
        sources, targets = (to_device(np.array(side, np.int64)) for side in zip(*pairs, strict=True))
        for tensors in (self.keys, self.values):
            for tensor in tensors:
                paddle._C_ops.index_put_(tensor, (targets,), tensor[sources], False)
