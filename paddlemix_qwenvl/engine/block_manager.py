"""Who has which blocks of the cache, and which of them hold what another prompt begins with.

A full block is known by the hash of all that decides its keys and values: a sequence that begins alike shares it. What nobody
holds any more stays known until its place is needed, longest ago first. Source: the paged cache of vLLM (arXiv:2309.06180).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable


class BlockManager:
    """References to `num_blocks` blocks of `block_size` slots.

    Args:
        prefix_cache: share blocks by content, and keep what they hold when nobody has them any more.
    """

    def __init__(self, num_blocks: int, block_size: int, prefix_cache: bool = True):
        self.num_blocks, self.block_size, self.prefix_cache = num_blocks, block_size, prefix_cache
        self._references = [0] * num_blocks
        self._free = list(range(num_blocks))[::-1]
        self._unheld: OrderedDict[int, None] = OrderedDict()  # with known content, what was used longest ago first
        self._block_of: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}

    @property
    def available(self) -> int:
        """Blocks that `take` could give."""
        return len(self._free) + len(self._unheld)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that so many tokens fill or begin."""
        return -(-tokens // self.block_size)

    def match(self, hashes: Iterable[bytes]) -> list[int]:
        """The blocks that hold the longest known beginning of these."""
        found = []
        for each in hashes:
            if (block := self._block_of.get(each)) is None:
                break
            found.append(block)
        return found

    def unheld(self, blocks: Iterable[int]) -> int:
        """How many of these `available` counts."""
        return sum(not self._references[block] for block in blocks)

    def take(self) -> int:
        """A block whose content is lost; there must be one `available`."""
        block = self._free.pop() if self._free else self._unheld.popitem(last=False)[0]
        self._block_of.pop(self._hash_of.pop(block, b""), None)
        self._references[block] = 1
        return block

    def hold(self, block: int) -> None:
        """One more has this block."""
        self._unheld.pop(block, None)
        self._references[block] += 1

    def is_shared(self, block: int) -> bool:
        """Whether more than one has this block."""
        return self._references[block] > 1

    def release(self, blocks: list[int]) -> None:
        """One less has each of these, the blocks of a sequence in order: its last ones are forgotten first."""
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block]:
                continue
            if block in self._hash_of:
                self._unheld[block] = None
            else:
                self._free.append(block)

    def know(self, block: int, content: bytes) -> None:
        """This full block holds what has this hash."""
        if self.prefix_cache and content not in self._block_of:
            self._block_of[content], self._hash_of[block] = block, content

    def forget(self) -> None:
        """No block's content is known any more, as after the weights have changed."""
        self._free += self._unheld
        self._unheld.clear()
        self._block_of.clear()
        self._hash_of.clear()
