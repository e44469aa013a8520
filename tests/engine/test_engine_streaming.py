"""Text as it comes: whole characters, every one of them once."""

import numpy as np
import pytest
from table_model import plain_prompt

from paddlemix_qwenvl.engine.sequence import Request, Sequence
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.engine.streaming import BatchStreamer, TextStreamer, stream_text

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


def test_every_row_of_a_batch_comes_in_whole_characters():
    texts = ["naïve", "图片🐱", ""]
    pieces = {0: [], 1: [], 2: []}
    streamer = BatchStreamer(Bytes(), lambda row, text: pieces[row].append(text))
    rows = [list(text.encode()) for text in texts]
    for step in range(max(map(len, rows))):
        streamer.put(np.array([row[step] if step < len(row) else 256 for row in rows]))
    streamer.end()
    assert ["".join(pieces[row]) for row in range(3)] == texts
    assert pieces[1] == list("图片🐱") and not pieces[2]


class Counting(Bytes):
    def __init__(self):
        self.decoded = 0

    def decode(self, token_ids, skip_special_tokens: bool = False) -> str:
        self.decoded += len(token_ids)
        return super().decode(token_ids, skip_special_tokens)


def test_no_token_is_decoded_again_once_it_is_shown():
    tokenizer = Counting()
    stream(TEXT.encode() * 50, tokenizer)
    most = sum((size := len(character.encode())) * (size + 1) // 2 for character in TEXT * 50)
    assert tokenizer.decoded == most < 2 * 50 * len(TEXT.encode())
    tokenizer = Counting()
    assert stops(b"a" * 300, ["never"], tokenizer=tokenizer) is None and tokenizer.decoded == 300


# ---- stop strings


def stops(text: bytes, strings, prompt: bytes = b"?", tokenizer=None) -> int | None:
    """After how many of its tokens an answer ends."""
    settings = GenerationSettings(max_new_tokens=len(text) + 1)
    request = Request(plain_prompt([*prompt]), settings, stop=tuple(strings))
    request.decoder = tokenizer or Bytes()
    sequence = Sequence(request, (0,), seed=0)
    sequence.text = None  # which would decode as well
    return next((count for count, token in enumerate(text, 1) if sequence.append(token, 0.0) == "stop"), None)


@pytest.mark.parametrize(
    ("text", "strings", "count"),
    [
        ("a STOP b", ["STOP", "\n\n"], 6),
        ("a\n\n", ["STOP", "\n\n"], 3),
        ("STO P. \n", ["STOP", "\n\n"], None),
        ("wxyz.", ["xyz"], 4),
        ("ab图片c", ["b图片"], 8),
        ("xy xyz", ["xyz", "q"], 6),
        ("q", ["xyz", "q"], 1),
        ("xyxyz", ["xyz"], 5),
    ],
)
def test_an_answer_ends_where_its_own_text_holds_a_string(text, strings, count):
    assert stops(text.encode(), strings, prompt="".join(strings).encode()) == count  # the prompt does not count


def test_a_string_may_stand_anywhere_in_a_tokens_text():
    class Words:
        def decode(self, token_ids, skip_special_tokens=False):
            return "".join(("one ", "-END-", "two ")[i] for i in token_ids)

    assert stops(bytes([0, 1, 2]), ["END"], tokenizer=Words()) == 2
    assert stops(bytes([0, 2, 0]), ["END"], tokenizer=Words()) is None


def test_special_tokens_can_stop():
    assert stops([97, 256, 97], ["a<end>"]) == 2


# ---- as an iterator


def speak(text: bytes, spoken: list[int]):
    """A `generate` that says `text`, one byte a step."""

    def generate(streamer, stopping_criteria, **_):
        for byte in text:
            spoken.append(byte)
            streamer.put([byte])
            if any(criterion(None, None) for criterion in stopping_criteria):
                break
        streamer.end()

    return generate


def test_an_answer_as_an_iterator():
    assert list(stream_text(speak(TEXT.encode(), []), Bytes())) == list(TEXT)


def test_closing_the_iterator_ends_the_answer():
    spoken = []
    pieces = stream_text(speak(b"a" * 10**7, spoken), Bytes())
    assert [next(pieces), next(pieces)] == ["a", "a"]
    pieces.close()
    assert 2 <= len(spoken) < 10**7


def test_the_iterator_raises_what_generate_raises():
    def generate(**_):
        raise ValueError("no such picture")

    with pytest.raises(ValueError, match="no such picture"):
        list(stream_text(generate, Bytes()))


def test_criteria_of_the_caller_count_too():
    assert "".join(stream_text(speak(b"abc", []), Bytes(), stopping_criteria=[lambda *_: True])) == "a"
