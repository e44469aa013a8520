"""Ranks that are threads: what the first one decides is what all of them compute and return."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from table_model import TableModel, picture, plain_prompt
from test_parallel import ranks_of, together

from paddlemix_qwenvl.engine.engine import Engine
from paddlemix_qwenvl.engine.events import Failed, Finished
from paddlemix_qwenvl.engine.ranks import LeadingRunner, follow, on_all_ranks
from paddlemix_qwenvl.engine.sequence import Request
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.errors import GenerationError, ParallelError, PromptError

VOCAB = 7
DEGREE = 3


def requests() -> list[Request]:
    """Greedy, sampled and searched answers to prompts of which two have a picture and all begin alike."""
    ways = [
        {},
        {"do_sample": True, "num_return_sequences": 2, "seed": 3},
        {"num_beams": 3},
        {"repetition_penalty": 1.3},
    ]
    prompts = [plain_prompt([1, 2, 1] + [3] * 3 + [way % 3], [picture(way, range(3, 6))]) for way in range(2)]
    prompts += [plain_prompt([1, 2, 1, 2, 2]), plain_prompt([1, 2, 1, 1])]
    settings = [GenerationSettings(max_new_tokens=12, **way) for way in ways]
    return [Request(prompt, each) for prompt, each in zip(prompts, settings, strict=True)]


def answered(runner, num_blocks: int, asked=None) -> list:
    """Tokens of each answer, or the error of a request, in order."""
    engine = Engine(runner, num_blocks, block_size=2, max_num_batched_tokens=5)
    numbers = [engine.add(request) for request in asked or requests()]
    found = {}
    for event in engine.run():
        if isinstance(event, Finished):
            found[event.request_id, event.index] = event.token_ids
        if isinstance(event, Failed):
            found[event.request_id, 0] = str(event.error)
    assert {number for number, _ in found} == {*numbers}
    return [found[key] for key in sorted(found)]


def everywhere(answer, runners=None, prepare=lambda: None) -> list:
    """What each rank of `on_all_ranks` returns or raises."""
    ranks = ranks_of(DEGREE)

    def work(rank, runner):
        try:
            return on_all_ranks(rank, [runner], prepare, answer)
        except Exception as error:
            return error

    return together(ranks, work, ranks, runners or [TableModel(VOCAB) for _ in ranks])


@pytest.mark.parametrize("num_blocks", [200, 31])
def test_the_others_do_what_the_first_rank_does(num_blocks):
    """With little room too, where sequences give their blocks back."""
    alone, runners = TableModel(VOCAB), [TableModel(VOCAB) for _ in range(DEGREE)]
    wanted = answered(alone, 200)
    assert everywhere(lambda _, runner: answered(runner, num_blocks), runners) == [wanted] * DEGREE
    first = runners[0]
    assert (first.tokens_computed > alone.tokens_computed) == (num_blocks < 200)
    for other in runners[1:]:
        assert (other.steps, other.tokens_computed, other.encoded) == (
            first.steps,
            first.tokens_computed,
            first.encoded,
        )
        assert np.array_equal(other.slots, first.slots)


def test_an_engine_may_lead_for_as_long_as_it_likes():
    """Without `on_all_ranks`: a rank that follows can be told to stop by the next call of it."""
    ranks, runners = ranks_of(2), [TableModel(VOCAB) for _ in range(2)]

    def work(rank, runner):
        if rank.rank:
            return follow([runner], rank)
        leading = LeadingRunner(runner, rank)
        found = [answered(leading, 100), answered(leading, 50)]
        return on_all_ranks(rank, [], lambda: found, lambda found: found)

    first, second = together(ranks, work, ranks, runners)
    assert first == second == [answered(TableModel(VOCAB), 200)] * 2


def test_a_cache_is_made_after_a_collective():
    """The first one outside of static graphs makes NCCL's ring, without which theirs fail."""
    done, runner = [], TableModel(VOCAB)
    runner.allocate = lambda *sizes: done.append("allocate")
    rank = SimpleNamespace(rank=0, degree=2, broadcast=lambda x: done.append("broadcast") or x)
    LeadingRunner(runner, rank).allocate(4, 4)
    assert done == ["broadcast", "allocate"]


@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("error", [PromptError("too long: shorten it."), GenerationError("ä\nno")], ids=repr)
def test_an_error_of_the_package_is_the_same_on_all_ranks(error, prepared):
    def fail(*_):
        raise error

    found = everywhere(lambda _, runner: fail(answered(runner, 200)), prepare=(lambda: None) if prepared else fail)
    assert {(type(each), str(each)) for each in found} == {(type(error), str(error))}


def test_another_error_is_named():
    def answer(_, runner):
        answered(runner, 200)
        raise ZeroDivisionError("first line\nby a criterion")

    first, *others = everywhere(answer)
    assert isinstance(first, ZeroDivisionError)
    for each in others:
        assert isinstance(each, ParallelError)
        assert "ended with an error of its own" in str(each) and "(ZeroDivisionError: by a criterion)" in str(each)


class Faulty(TableModel):
    """Encodes no picture of content 1; `broken` computes nothing at all."""

    broken = False

    def encode(self, media):
        if any(each.inputs["content"] == 1 for each in media):
            raise PromptError("such a picture cannot be.")
        return super().encode(media)

    def step(self, inputs, features):
        if self.broken:
            raise MemoryError("no room\nfor more")
        return super().step(inputs, features)


def test_a_picture_that_cannot_be_encoded_ends_its_request_alone():
    runners = [Faulty(VOCAB) for _ in range(DEGREE)]
    wanted = answered(TableModel(VOCAB), 200)
    wanted[1:3] = ["such a picture cannot be."]
    assert everywhere(lambda _, runner: answered(runner, 200), runners) == [wanted] * DEGREE


def test_a_first_rank_that_cannot_compute_tells_nothing_more():
    """The others wait within the step, and are told by their collectives that it is gone."""
    rank, runner = ranks_of(1)[0], Faulty(VOCAB)
    runner.broken = True
    told = []
    rank.group.share = lambda _, value: told.append(value) or [value]
    rank = SimpleNamespace(rank=0, degree=2, meet=rank.meet, broadcast=rank.broadcast)
    with pytest.raises(
        ParallelError, match=r"rank 0 of 2 could not finish .* \(MemoryError: for more\): start them again\."
    ):
        on_all_ranks(rank, [runner], lambda: requests()[3:], lambda asked, leading: answered(leading, 200, asked))
    assert len(told) == 2  # the cache, the step


@pytest.mark.parametrize(("device", "room"), [("gpu", 700), ("cpu", 700 // DEGREE)])
def test_a_cache_fits_the_rank_that_has_least(device, room):
    """And ranks on CPUs share one memory."""
    runners = [TableModel(VOCAB) for _ in range(DEGREE)]
    for rank, runner in enumerate(runners):
        runner.free_memory = partial(lambda free: (device, free), 900 - 100 * rank)
    assert [*map(tuple, everywhere(lambda _, runner: runner.free_memory(), runners))] == [(device, room)] * DEGREE
