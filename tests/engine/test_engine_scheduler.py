"""Which sequences are computed in a step, how much of each, and who gives blocks back."""

import pytest
from table_model import request

from paddlemix_qwenvl.engine.block_manager import BlockManager
from paddlemix_qwenvl.engine.scheduler import Scheduler
from paddlemix_qwenvl.engine.sequence import Sequence

BLOCK_SIZE = 4


class Steps:
    """A scheduler and what an engine does around it; every token of an answer is `said`."""

    def __init__(self, num_blocks: int, max_num_seqs: int = 8, prefix_cache: bool = True):
        self.blocks = BlockManager(num_blocks, BLOCK_SIZE, prefix_cache)
        self.scheduler = Scheduler(self.blocks, max_num_seqs)
        self.names: dict[Sequence, str] = {}

    def add(self, name: str, prompt, priority: int = 0, **settings) -> Sequence:
        asked = request(prompt, settings={"max_new_tokens": 50, **settings}, priority=priority)
        sequence = Sequence(asked, (priority, len(self.names), 0), seed=0)
        self.names[sequence] = name
        self.scheduler.add(sequence)
        return sequence

    def plan(self, budget: int, drafts=lambda sequence: []) -> dict[str, int]:
        """Tokens of each sequence in the next step, which is carried out."""
        self.last = plan = self.scheduler.plan(budget, drafts)
        for part in plan.parts:
            sequence, completes = part.sequence, part.completes
            assert len(sequence.blocks) >= self.blocks.blocks_for(sequence.computed + part.count)
            sequence.computed += part.count
            hashes = sequence.hashes(sequence.computed // BLOCK_SIZE, BLOCK_SIZE)
            for block, content in zip(sequence.blocks, hashes, strict=False):
                self.blocks.know(block, content)
            if completes:
                sequence.append(9, 0.0)
        return {self.names[part.sequence]: part.count for part in plan.parts}

    def waiting(self) -> list[str]:
        return [self.names[sequence] for sequence in self.scheduler.waiting]


def test_first_come_first_served():
    steps = Steps(20)
    for name, token in zip("abc", (1, 2, 3), strict=True):
        steps.add(name, [token] * 6)
    assert steps.plan(10) == {"a": 6, "b": 4}
    assert steps.plan(10) == {"a": 1, "b": 2, "c": 6}
    assert steps.plan(10) == {"a": 1, "b": 1, "c": 1}


def test_priorities_go_first():
    steps = Steps(20)
    steps.add("late", [1] * 6, priority=1)
    steps.add("soon", [2] * 6)
    steps.add("first", [3] * 6, priority=-1)
    assert steps.plan(6) == {"first": 6}
    assert steps.plan(6) == {"first": 1, "soon": 6}
    assert steps.plan(6) == {"first": 1, "soon": 1, "late": 6}


def test_prompts_are_computed_in_chunks_beside_answers():
    steps = Steps(20)
    steps.add("answer", [1, 2])
    assert steps.plan(8) == {"answer": 2}
    steps.add("prompt", [3] * 7)
    assert [steps.plan(3) for _ in range(4)] == [
        {"answer": 1, "prompt": 3},
        {"answer": 1, "prompt": 3},
        {"answer": 1, "prompt": 1},
        {"answer": 1, "prompt": 1},
    ]


def test_nothing_of_prompts_where_there_is_no_budget():
    steps = Steps(20)
    steps.add("answer", [1, 2])
    steps.plan(8)
    steps.add("prompt", [3] * 7)
    assert steps.plan(0) == {"answer": 1} and steps.waiting() == ["prompt"]


def test_no_more_than_so_many_at_a_time():
    steps = Steps(50, max_num_seqs=2)
    first = steps.add("a", [1])
    steps.add("b", [2])
    steps.add("c", [3])
    assert steps.plan(99) == {"a": 1, "b": 1}
    steps.scheduler.remove(first)
    assert steps.plan(99) == {"b": 1, "c": 1}


@pytest.mark.parametrize("settings", [{"num_beams": 3}, {"num_return_sequences": 3, "do_sample": True}], ids=str)
def test_a_prompt_counts_for_what_goes_on_after_it(settings):
    steps = Steps(50, max_num_seqs=4)
    steps.add("wide", [1] * 6, **settings)
    steps.add("one", [2])
    steps.add("another", [3])
    assert steps.plan(4) == {"wide": 4}
    assert steps.plan(99) == {"wide": 2, "one": 1}
    assert steps.waiting() == ["another"]


def test_the_youngest_gives_its_blocks_back_and_comes_again():
    steps = Steps(4, prefix_cache=False)
    old = steps.add("old", [1] * 7)
    young = steps.add("young", [2] * 7)
    assert steps.plan(99) == {"old": 7, "young": 7}
    assert steps.plan(99) == {"old": 1, "young": 1}  # both have full blocks now
    assert steps.plan(99) == {"old": 1} and steps.waiting() == ["young"]
    assert (young.computed, young.blocks, young.length) == (0, [], 9)
    assert steps.plan(99) == {"old": 1} and steps.blocks.available == 1
    steps.scheduler.remove(old)
    assert steps.plan(99) == {"young": 9}
    steps.scheduler.remove(young)
    assert steps.blocks.available == 4


def test_one_that_was_taken_into_the_step_already_can_be_the_one():
    steps = Steps(3, prefix_cache=False)
    steps.add("young", [2] * 3, priority=1)
    assert steps.plan(99) == {"young": 3}
    steps.add("old", [1] * 6)
    assert steps.plan(99) == {"young": 1, "old": 6}
    assert steps.plan(99) == {"old": 1} and steps.waiting() == ["young"]


def test_a_prompt_waits_until_there_is_room_for_all_of_it():
    steps = Steps(3, prefix_cache=False)
    first = steps.add("a", [1] * 5)
    steps.add("b", [2] * 6)
    steps.add("c", [3])
    assert steps.plan(99) == {"a": 5} and steps.waiting() == ["b", "c"]  # c does not overtake b
    steps.scheduler.remove(first)
    assert steps.plan(99) == {"b": 6, "c": 1}


def test_what_is_known_is_not_computed_again():
    steps = Steps(20)
    first = steps.add("a", [1] * 9)
    steps.plan(99)
    again, longer = steps.add("b", [1] * 9), steps.add("c", [1] * 8)
    assert steps.plan(99) == {"a": 1, "b": 1, "c": 4}  # one token at least is computed, for its logits
    assert (first.cached, again.cached, longer.cached) == (0, 8, 4)
    assert again.blocks[:2] == first.blocks[:2] and longer.blocks[0] == first.blocks[0]


def test_a_preempted_one_finds_what_it_had_computed():
    steps = Steps(4)
    old, young = steps.add("old", [1] * 7), steps.add("young", [2] * 7)
    for _ in range(3):
        steps.plan(99)
    assert steps.waiting() == ["young"]
    steps.scheduler.remove(old)
    assert steps.plan(99) == {"young": 5} and young.cached == 4  # its second block was taken


def test_sequences_that_begin_alike_wait_for_each_other():
    steps = Steps(20)
    for name, end in (("a", 7), ("b", 8)):
        steps.add(name, [1] * 8 + [end])
    other = steps.add("other", [5] * 5)
    assert steps.plan(4) == {"a": 4}
    assert steps.plan(6) == {"a": 5, "other": 1}  # which is not held up
    assert steps.waiting() == ["b"] and other in steps.scheduler.running
    assert steps.plan(99) == {"a": 1, "other": 4, "b": 1}


def test_they_do_not_wait_without_a_prefix_cache():
    steps = Steps(20, prefix_cache=False)
    for name in "ab":
        steps.add(name, [1] * 9)
    assert steps.plan(99) == {"a": 9, "b": 9}


def test_drafts_take_room_of_their_own():
    steps = Steps(20)
    sequence = steps.add("a", [1, 2, 3])
    steps.plan(99)
    assert steps.plan(99, drafts=lambda each: [7, 8]) == {"a": 1}
    (part,) = steps.last.parts
    assert part.drafts == [7, 8] and len(sequence.blocks) == 2


def test_a_fork_writes_into_a_copy_of_what_it_shares():
    steps = Steps(20)
    one = steps.add("one", [1] * 6)
    steps.plan(99)
    two = one.fork((0, 0, 1), 1)
    steps.names[two] = "two"
    steps.scheduler.run(two)
    shared = [*one.blocks]
    assert steps.plan(99) == {"one": 1, "two": 1}
    assert steps.last.copies == [(shared[1], one.blocks[1])]
    assert one.blocks[0] == two.blocks[0] == shared[0] and two.blocks[1] == shared[1] != one.blocks[1]
    assert steps.plan(99) == {"one": 1, "two": 1} and steps.last.copies == []
    for each in (one, two):
        steps.scheduler.remove(each)
    assert steps.blocks.available == 20


def test_a_younger_one_makes_room_where_nobody_goes_on():
    """As where the first sequence of a beam search has computed its token and waits for the others of its search."""
    steps = Steps(2, prefix_cache=False)
    young = steps.add("young", [2] * 5, priority=1)
    steps.plan(99)
    young.computed = young.length
    steps.add("old", [1] * 5)
    assert steps.plan(99) == {"old": 5} and steps.waiting() == ["young"]
