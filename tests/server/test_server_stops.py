"""Stop strings, however the text comes in pieces."""

import pytest

from paddlemix_qwenvl.server.stops import StopStrings


def read(pieces, stops, keep=False):
    """The text that is told, and the stop that was found."""
    reader = StopStrings(stops, keep)
    told = [reader.add(piece) for piece in pieces]
    return "".join([*told, reader.add("", final=True)]), reader.found


TEXTS = [
    ("abcabd and more", ["abd"], "abc", "abd"),
    ("abcabd", ["cab", "abd"], "ab", "cab"),
    ("aaab", ["aab"], "a", "aab"),
    ("no stop, ab", ["abc"], "no stop, ab", None),
    ("anything", [], "anything", None),
]


@pytest.mark.parametrize(("text", "stops", "told", "found"), TEXTS)
def test_texts_end_before_the_first_stop_in_any_pieces(text, stops, told, found):
    assert read([text], stops) == read(text, stops) == (told, found)
    for cut in range(len(text)):
        assert read([text[:cut], text[cut:]], stops) == (told, found)
        assert read([text[:cut], text[cut:]], stops, keep=True) == (told + (found or ""), found)


def test_no_more_is_held_back_than_may_become_one():
    reader = StopStrings(["<end>"])
    assert [reader.add(piece) for piece in ("a<e", "n", "x", "<", "end>b")] == ["a", "", "<enx", "", ""]
