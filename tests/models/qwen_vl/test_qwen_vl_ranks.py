"""Files of Qwen-VL's tokenizer, as they should be and as they should not."""

import json
import shutil
from base64 import b64encode

import pytest

from paddlemix_qwenvl import QWenVLProcessor
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.models.qwen_vl.ranks import read_ranks, write_ranks

BYTES = [bytes([value]) for value in range(256)]


def line(token: bytes, rank) -> bytes:
    return b64encode(token) + b" %a\n" % rank


def ranks(tmp_path, *more: bytes) -> dict:
    path = tmp_path / "qwen.tiktoken"
    path.write_bytes(b"".join(line(token, rank) for rank, token in enumerate(BYTES)) + b"".join(more))
    return read_ranks(path)


def test_ranks(tmp_path):
    assert ranks(tmp_path, line(b"ab", 256), b"\n") == {**{token: rank for rank, token in enumerate(BYTES)}, b"ab": 256}


def test_ranks_with_windows_line_ends(tmp_path):
    """As in Qwen/Qwen-VL-Chat-Int4."""
    assert ranks(tmp_path, line(b"ab", 256)[:-1] + b"\r\n", line(b"cd", 257))[b"cd"] == 257


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (line(b"ab", 257), r"line 257 is .*, expected a token in base64, which no other line has, and the rank 256"),
        (line(b"a", 256), "line 257"),
        (b"ab 256\n", "line 257"),
        (b"YWI=\n", "line 257"),
        (b"YWI= x\n", "line 257"),
        (b" 256\n", "line 257"),
        (b"\xff\xff 256\n", "cannot be read"),
    ],
)
def test_lines_that_are_no_ranks(tmp_path, more, message):
    with pytest.raises(ConfigurationError, match=message):
        ranks(tmp_path, more)


def test_a_byte_that_is_missing(tmp_path):
    (tmp_path / "qwen.tiktoken").write_bytes(b"".join(line(token, rank) for rank, token in enumerate(BYTES[:-1])))
    with pytest.raises(ConfigurationError, match="no token for the byte 255"):
        read_ranks(tmp_path / "qwen.tiktoken")
    with pytest.raises(ConfigurationError, match=r"other\.tiktoken cannot be read \(No such file"):
        read_ranks(tmp_path / "other.tiktoken")


def test_ranks_are_written_as_they_were_read(folder, tmp_path):
    read = read_ranks(folder / "qwen.tiktoken")
    write_ranks(read, tmp_path / "qwen.tiktoken")
    assert read_ranks(tmp_path / "qwen.tiktoken") == read


@pytest.fixture
def own_folder(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("tokenizer_config.json", {"model_max_length": "long"}, 'model_max_length is "long"'),
        ("tokenizer_config.json", {"padding_side": 5}, "padding_side is 5"),
        ("tokenizer_config.json", {"errors": "loud"}, 'errors is "loud"'),
        ("generation_config.json", {"chat_format": "alpaca"}, 'chat_format is "alpaca", expected .chatml. or .raw.'),
        (
            "config.json",
            {"visual": {"image_start_id": 7}},
            r"visual\.image_start_id is 7, expected \d+, the id of <img>",
        ),
    ],
)
def test_settings_that_cannot_be(own_folder, name, fields, message):
    found = json.loads((own_folder / name).read_text())
    found |= {key: {**found[key], **value} if isinstance(value, dict) else value for key, value in fields.items()}
    (own_folder / name).write_text(json.dumps(found))
    with pytest.raises(ConfigurationError, match=message) as caught:
        QWenVLProcessor.from_pretrained(own_folder)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"padding_sid": "left"}, r"'padding_sid' is no setting of the tokenizer"),
        ({"max_pixels": 5}, "'max_pixels' is no"),
    ],
)
def test_settings_of_loading_that_nobody_knows(own_folder, given, message):
    with pytest.raises(ConfigurationError, match=message):
        QWenVLProcessor.from_pretrained(own_folder, **given)
    assert (
        QWenVLProcessor.from_pretrained(own_folder, padding_side="right", use_fast=False).tokenizer.padding_side
        == "right"
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda processor: processor("the", max_pixels=5),
        lambda processor: processor("the", padding="x"),
        lambda processor: processor("the", images_kwargs={"size": 5}),
        lambda processor: processor.image_processor([], size=5),
        lambda processor: processor.tokenizer("the", pading=True),
        lambda processor: processor.tokenizer("the", return_offsets_mapping=True),
        lambda processor: processor.apply_chat_template([{"role": "user", "content": "a"}], chat_template="x"),
        lambda processor: processor.apply_chat_template([{"role": "user", "content": "a"}], tokenize=True, fps=1),
    ],
    ids=range(8),
)
def test_options_that_nobody_knows(processor, call):
    with pytest.raises(ConfigurationError):
        call(processor)


def test_options_of_calls(processor):
    pad = processor.tokenizer.eod_id
    rows = processor(text=["the", "the the the"], return_tensors="np", padding_side="right")
    assert rows["input_ids"][0, -1] == pad and rows["attention_mask"][0, -1] == 0
    cut = processor("the the the", text_kwargs={"truncation": True, "max_length": 2})
    assert cut["input_ids"][0] == processor("the the the")["input_ids"][0][:2]
    messages = [{"role": "user", "content": [{"type": "text", "text": "the", "image": None}], "name": None}]
    whole = processor.apply_chat_template(messages, tokenize=True)
    assert processor.apply_chat_template(messages, tokenize=True, return_dict=False) == whole["input_ids"]
