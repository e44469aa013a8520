"""Tokens that may follow, looked up in what was there before."""

import numpy as np
import pytest

from paddlemix_qwenvl.engine.lookup import PromptLookup


@pytest.mark.parametrize(
    ("ids", "count", "room", "wanted"),
    [
        ([1, 2, 3, 4, 5, 1, 2, 3], 2, 9, [4, 5]),
        ([1, 2, 3, 4, 5, 1, 2, 3], 2, 1, [4]),
        ([1, 2, 3, 4, 5, 1, 2, 3], 2, 0, []),
        ([1, 2, 3, 4, 5, 1, 2, 3], 0, 9, []),
        ([1, 2, 3, 4, 5, 1, 2, 3], 9, 9, [4, 5, 1, 2, 3]),
        ([7, 2, 3, 4, 5, 1, 2, 3], 2, 9, [4, 5]),  # two tokens where there are no three
        ([1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3], 1, 9, [4]),  # three go before two
        ([2, 3, 4, 2, 3, 5, 2, 3], 1, 9, [5]),  # the last of several
        ([1, 2, 3, 4, 5], 2, 9, []),
        ([3], 2, 9, []),
        ([3, 3], 2, 9, []),
        ([3, 3, 3], 2, 9, [3]),
    ],
    ids=str,
)
def test_what_followed_the_last_tokens_before(ids, count, room, wanted):
    assert PromptLookup(count).drafts(np.array(ids), room) == wanted


def test_it_pauses_twice_as_long_each_time_nothing_was_right():
    ids, lookup, pauses = np.array([1, 2, 3, 1, 2]), PromptLookup(1), []
    for _ in range(8):
        lookup.took(0)
        pause = 0
        while not lookup.drafts(ids, 9):
            pause += 1
        pauses.append(pause)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 64]
    lookup.took(1)
    assert lookup.drafts(ids, 9) == [3]
    lookup.took(0)
    assert [lookup.drafts(ids, 9) for _ in range(2)] == [[], [3]]


def test_copies_pause_by_themselves():
    ids, lookup = np.array([1, 2, 3, 1, 2]), PromptLookup(1)
    lookup.took(0)
    twin = lookup.copy()
    assert lookup.drafts(ids, 9) == [] and twin.drafts(ids, 9) == [] and twin.drafts(ids, 9) == [3]
