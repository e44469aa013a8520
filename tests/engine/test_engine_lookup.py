"""Tokens that may follow, looked up in what was there before."""

import numpy as np
import pytest
from table_model import Repeating, TableModel, answer_of, engine_of, events_of, finished, greedy, request

from paddlemix_qwenvl.engine.events import Token
from paddlemix_qwenvl.engine.lookup import PromptLookup

PROMPT = [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("ids", "count", "room", "wanted"),
    [
        ([1, 2, 3, 4, 5, 1, 2, 3], 2, 9, [4, 5]),
        ([1, 2, 3, 4, 5, 1, 2, 3], 2, 1, [4]),
        ([1, 2, 3, 4, 5, 1, 2, 3], 2, 0, []),
        ([1, 2, 3, 4, 5, 1, 2, 3], 0, 9, []),
        ([1, 2, 3, 4, 5, 1, 2, 3], 9, 9, [4, 5]),  # a first draft is short
        ([7, 2, 3, 4, 5, 1, 2, 3], 2, 9, []),  # two tokens alone are not enough
        ([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 1, 9, [5]),  # the last of several
        ([1, 2, 3, 4, 5], 2, 9, []),
        ([3], 2, 9, []),
        ([3, 3], 2, 9, []),
        ([3, 3, 3], 2, 9, []),
        ([3, 3, 3, 3], 2, 9, [3]),
    ],
    ids=str,
)
def test_what_followed_the_last_tokens_before(ids, count, room, wanted):
    assert PromptLookup(count).drafts(np.array(ids), room) == wanted


def test_it_pauses_four_times_as_long_each_time_nothing_was_right():
    ids, lookup, pauses = np.array([1, 2, 3, 4, 1, 2, 3]), PromptLookup(1), []
    for _ in range(6):
        lookup.took(0, 1)
        pause = 0
        while not lookup.drafts(ids, 9):
            pause += 1
        pauses.append(pause)
    assert pauses == [1, 4, 16, 64, 64, 64]
    lookup.took(1, 1)
    assert lookup.drafts(ids, 9) == [4]
    lookup.took(0, 1)
    assert [lookup.drafts(ids, 9) for _ in range(2)] == [[], [4]]


def test_drafts_grow_while_they_are_right():
    ids, lookup = np.array([*range(20), 0, 1, 2]), PromptLookup(6)
    lengths = []
    for _ in range(4):
        lengths.append(len(lookup.drafts(ids, 99)))
        lookup.took(lengths[-1], lengths[-1])
    lookup.took(1, 6)  # in part: as it was
    lengths.append(len(lookup.drafts(ids, 99)))
    lookup.took(0, 6)
    lengths += [len(lookup.drafts(ids, 99)) for _ in range(2)]
    assert lengths == [2, 4, 6, 6, 6, 0, 2]


def test_copies_pause_by_themselves():
    ids, lookup = np.array([1, 2, 3, 4, 1, 2, 3]), PromptLookup(1)
    lookup.took(0, 1)
    twin = lookup.copy()
    assert lookup.drafts(ids, 9) == [] and twin.drafts(ids, 9) == [] and twin.drafts(ids, 9) == [4]


# ---- on an engine


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_sample": True, "temperature": 0.1, "seed": 3},
        {"frequency_penalty": 0.01, "min_new_tokens": 20, "eos_token_ids": [2]},
        {"do_sample": True, "temperature": 0.1, "seed": 3, "num_return_sequences": 3},
    ],
    ids=str,
)
def test_lookup_gives_the_same_tokens_in_fewer_steps(settings):
    settings, found, steps = {"max_new_tokens": 40, **settings}, [], []
    for count in (0, 4):
        model = Repeating(7, seed=1)
        engine = engine_of(model, num_blocks=100)
        engine.add(request(PROMPT, settings={**settings, "prompt_lookup_num_tokens": count}))
        events = events_of(engine)
        found.append({key: (event.token_ids, event.reason) for key, event in finished(events).items()})
        for (_, index), (tokens, _) in found[-1].items():
            assert [event.token_id for event in events if isinstance(event, Token) and event.index == index] == tokens
        steps.append(model.steps)
        assert engine.blocks.available == 100
    assert found[0] == found[1] and len(found[0][0, 0][0]) > 10
    assert steps[1] < 0.7 * steps[0]


def test_lookup_where_nothing_repeats_takes_no_more_steps():
    steps = []
    for count in (0, 4):
        model = TableModel(5)
        assert (
            answer_of(engine_of(model), PROMPT[:4], max_new_tokens=40, prompt_lookup_num_tokens=count)
            == (greedy(model, PROMPT[:4], 40)[0])
        )
        steps.append(model.steps)
    assert steps[1] <= steps[0]
