"""Which sequences are computed in the next step, and how much of each.

First come, first served within a priority. Every running sequence that waits for one token gets it; prompts are computed in parts
beside them. Where blocks run out the youngest gives its own back and is computed again later, to the same tokens.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from operator import attrgetter

from paddlemix_qwenvl.engine.block_manager import BlockManager
from paddlemix_qwenvl.engine.sequence import Sequence


@dataclass
class Part:
    """What is computed of one sequence: `count` tokens from `sequence.computed` on, then `drafts` of what may follow."""

    sequence: Sequence
    count: int
    drafts: list[int] = field(default_factory=list)

    @property
    def completes(self) -> bool:
        """The next token is known after it."""
        return self.count == self.sequence.remaining


@dataclass
class Plan:
    """One step. `copies` are pairs of blocks, the second of which becomes a copy of the first before it."""

    parts: list[Part] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)

    @property
    def may_be_read_late(self) -> bool:
        """The step after it does not depend on what it draws, but for who ends."""
        late = [part.sequence.may_be_read_late and not part.drafts for part in self.parts]
        return bool(late) and all(late)


class Scheduler:
    """The sequences of an engine.

    Args:
        blocks: of the cache.
        max_num_seqs: sequences in a step, at most.
    """

    def __init__(self, blocks: BlockManager, max_num_seqs: int):
        self.blocks, self.max_num_seqs = blocks, max_num_seqs
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        """A new sequence, or one that gave its blocks back."""
        insort(self.waiting, sequence, key=attrgetter("key"))

    def know(self, sequence: Sequence) -> None:
        """The full blocks of a sequence can be shared from now on."""
        size = self.blocks.block_size
        hashes = sequence.hashes(min(sequence.computed, sequence.length) // size, size)
        for place in range(sequence.known, len(hashes)):
            self.blocks.know(sequence.blocks[place], hashes[place])
        sequence.known = len(hashes)

    def run(self, sequence: Sequence) -> None:
        """A sequence that has its blocks already, a fork."""
        for block in sequence.blocks:
            self.blocks.hold(block)
        insort(self.running, sequence, key=attrgetter("key"))

    def remove(self, sequence: Sequence) -> None:
        """A sequence that is done; its blocks are given back."""
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        self._give_back(sequence)

    def plan(self, budget: int, drafts) -> Plan:
        """The next step.

        Args:
            budget: tokens of prompts in it, at most.
            drafts: called with a sequence that waits for one token; tokens that may follow.
        """
        plan = Plan()
        for sequence in [each for each in self.running if each.remaining == 1]:
            guesses = drafts(sequence)
            if sequence in self.running and self._make_room(sequence, 1 + len(guesses), plan):
                plan.parts.append(Part(sequence, 1, guesses))
        for sequence in [each for each in self.running if each.remaining > 1]:
            count = min(sequence.remaining, budget)
            if count and sequence in self.running and self._make_room(sequence, count, plan):
                plan.parts.append(Part(sequence, count))
                budget -= count
        while budget and (sequence := self._next_waiting()):
            taken = sum(map(_width, self.running)) + _width(sequence)
            if taken > self.max_num_seqs or not self._admit(sequence):
                if plan.parts or not self._preempt_younger(sequence):
                    break
                continue
            count = min(sequence.remaining, budget)
            self._make_room(sequence, count, plan)
            plan.parts.append(Part(sequence, count))
            budget -= count
        return plan

    def _next_waiting(self) -> Sequence | None:
        """The first one that waits, but for those that begin with what another is about to compute."""
        if not self.waiting or not self.blocks.prefix_cache:
            return next(iter(self.waiting), None)
        computing = {self._next_hash(each) for each in self.running if each.remaining > 1}
        return next((each for each in self.waiting if self._next_hash(each) not in computing - {None}), None)

    def _next_hash(self, sequence: Sequence) -> bytes | None:
        """The first full block of a sequence that nobody has computed yet."""
        size = self.blocks.block_size
        hashes = sequence.hashes((sequence.length - 1) // size, size)
        known = len(self.blocks.match(hashes))
        return hashes[known] if known < len(hashes) else None

    def _admit(self, sequence: Sequence) -> bool:
        """Take a waiting sequence in, with what the cache has of its beginning, if there are blocks for all of its tokens."""
        size = self.blocks.block_size
        found = self.blocks.match(sequence.hashes((sequence.length - 1) // size, size))
        needed = self.blocks.blocks_for(sequence.total) - len(found)
        if self.blocks.available - self.blocks.unheld(found) < needed:
            return False
        for block in found:
            self.blocks.hold(block)
        sequence.blocks = found + [self.blocks.take() for _ in range(needed)]
        sequence.computed = len(found) * size
        sequence.cached = max(sequence.cached, min(sequence.computed, sequence.prompt_length))
        self.waiting.remove(sequence)
        insort(self.running, sequence, key=attrgetter("key"))
        return True

    def _make_room(self, sequence: Sequence, count: int, plan: Plan) -> bool:
        """Blocks of its own for the next tokens of a sequence; younger ones give theirs back, or it does so itself."""
        first = sequence.computed // self.blocks.block_size
        missing = self.blocks.blocks_for(sequence.computed + count) - len(sequence.blocks)
        while True:
            places = range(first, len(sequence.blocks))
            shared = [place for place in places if self.blocks.is_shared(sequence.blocks[place])]
            if self.blocks.available >= len(shared) + max(0, missing):
                break
            youngest = self.running[-1]
            plan.parts = [part for part in plan.parts if part.sequence is not youngest]
            plan.copies = [pair for pair in plan.copies if pair[1] not in youngest.blocks]
            self.preempt(youngest)
            if youngest is sequence:
                return False
        for place in shared:
            block = self.blocks.take()
            plan.copies.append((sequence.blocks[place], block))
            self.blocks.release([sequence.blocks[place]])
            sequence.blocks[place] = block
        sequence.blocks += [self.blocks.take() for _ in range(missing)]
        return True

    def _preempt_younger(self, sequence: Sequence) -> bool:
        """Have the youngest give its blocks back, if it is younger than this one: where nobody can go on, sequences of a beam
        search wait for others."""
        if not self.running or self.running[-1].key < sequence.key:
            return False
        self.preempt(self.running[-1])
        return True

    def preempt(self, sequence: Sequence) -> None:
        """A running sequence gives its blocks back and waits again."""
        self.running.remove(sequence)
        self._give_back(sequence)
        self.add(sequence)

    def _give_back(self, sequence: Sequence) -> None:
        self.blocks.release(sequence.blocks)
        sequence.blocks, sequence.computed, sequence.known, sequence.features = [], 0, 0, {}


def _width(sequence: Sequence) -> int:
    """Sequences that this one is, or will be after its prompt."""
    return sequence.settings.width if sequence.length == sequence.prompt_length else 1
