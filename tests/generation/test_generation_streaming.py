"""Text as it comes: whole characters, every one of them once."""

import pytest

from paddlemix_qwenvl.generation.stopping import StopStrings
from paddlemix_qwenvl.generation.streaming import TextStreamer

TEXT = "naïve 图片 🐱‍👤 — ok"


class Bytes:
    """A tokenizer whose tokens are the bytes of UTF-8; 256 is special."""

    def decode(self, token_ids, skip_special_tokens: bool = False) -> str:
        shown = [i for i in token_ids if i < 256]
        text = bytes(shown).decode(errors="replace")
        return text if skip_special_tokens else text + "<end>" * (len(token_ids) - len(shown))


def stream(ids, tokenizer=None) -> list[str]:
    pieces = []
    streamer = TextStreamer(tokenizer or Bytes(), pieces.append)
    for token in ids:
        streamer.put([token])
    streamer.end()
    return pieces


def test_pieces_make_the_whole_text_and_no_half_characters():
    pieces = stream(TEXT.encode())
    assert "".join(pieces) == TEXT and all("\ufffd" not in piece and piece for piece in pieces)
    assert len(pieces) == len(TEXT)


def test_special_tokens_are_not_shown():
    assert "".join(stream([*b"ab", 256, *b"c", 256])) == "abc"


def test_half_a_character_at_the_end_is_shown_as_what_it_is():
    assert "".join(stream("ab图".encode()[:-1])) == "ab\ufffd"


def test_the_real_tokenizer(processor):
    ids = processor(text=[TEXT])["input_ids"][0]
    assert "".join(stream(ids, processor.tokenizer)) == TEXT


def test_only_the_first_row_is_shown_and_a_streamer_can_be_used_again():
    pieces = []
    streamer = TextStreamer(Bytes(), pieces.append)
    for _ in range(2):
        for row in ((97, 120), (98, 121)):
            streamer.put(row)
        streamer.end()
    assert pieces == ["a", "b", "a", "b"]


def test_text_is_printed_where_nothing_else_is_asked_for(capsys):
    streamer = TextStreamer(Bytes())
    for token in "é!".encode():
        streamer.put([token])
    streamer.end()
    assert capsys.readouterr().out == "é!"


class Ids(list):
    """Enough of a tensor."""

    def tolist(self) -> list:
        return list(self)


@pytest.mark.parametrize(
    ("rows", "stops"),
    [
        ([b"..", b".."], False),
        ([b"a\n\n", b"."], False),
        ([b"a\n\n", b"b STOP c"], True),
        ([b"STOP", b"STOP"], True),
        ([b"STO", b"STOP"], False),
    ],
)
def test_stop_strings(rows, stops):
    prompt = b"STOP\n\n"  # does not count
    criterion = StopStrings(Bytes(), len(prompt), ["STOP", "\n\n"])
    assert criterion(Ids(list(prompt + row) for row in rows), None) is stops


def test_one_stop_string_needs_no_list():
    criterion = StopStrings(Bytes(), 0, "xyz")
    assert criterion(Ids([list(b"wxyz")]), None) and not criterion(Ids([list(b"xy z")]), None)
