"""Conversations from files and folders."""

import json

import pytest
from PIL import Image

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.quantization.calibration import Calibration
from paddlemix_qwenvl.quantization.source import Source


def test_a_folder_of_all_kinds(folder, lines, tmp_path):
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "a.PNG")
    (tmp_path / "b.txt").write_text("in an hour " * 2000)
    (tmp_path / "c.jsonl").write_text('\ufeff[{"role": "user", "content": "the other"}]\n\n', encoding="utf-8")
    (tmp_path / "d.pdf").write_bytes(b"%PDF")
    (tmp_path / "e.md").write_text(" \n")
    (tmp_path / "inner").mkdir()
    found = Calibration.read(tmp_path)
    assert [place.removeprefix(f"{tmp_path}/") for place, _ in found.conversations] == [
        "a.PNG",
        "b.txt",
        "c.jsonl, line 1",
    ]
    contents = [messages[0]["content"] for _, messages in found.conversations]
    assert contents[0][0] == {"type": "image", "image": str(tmp_path / "a.PNG")}
    assert contents[1][0]["text"] == ("in an hour " * 2000)[:8192] and contents[2] == "the other"
    source = Source.open(folder)
    source.processor.image_processor.max_pixels = 10_000_000
    samples = found.samples(source)
    assert len(samples) == 3 and 400 < samples[0].prompt.media[0].places.size <= 512
    assert found.sha256 == Calibration.read(tmp_path).sha256
    (tmp_path / "b.txt").write_text("in an hour ")
    assert found.sha256 != Calibration.read(tmp_path).sha256


def test_what_a_file_names_lies_beside_it(lines, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.jsonl").write_text(
        "\n".join(
            json.dumps({"messages": [{"role": "user", "content": [{"type": "image", "image": name}]}]})
            for name in ("a.png", "/b.png", "file:///c.png", "https://d/e.png", "data:image/png;base64,AA")
        )
    )
    found = [messages[0]["content"][0]["image"] for _, messages in Calibration.read("more.jsonl").conversations]
    assert found == ["a.png", "/b.png", "file:///c.png", "https://d/e.png", "data:image/png;base64,AA"]
    found = Calibration.read(tmp_path / "more.jsonl").conversations[0][1][0]["content"][0]["image"]
    assert found == str(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lines.jsonl, which holds no conversation: give a file of JSON lines"),
        ("\n[1, 2", r"lines.jsonl, line 2 cannot be read as JSON"),
        ("[" * 100_000, r"lines.jsonl, line 1 cannot be read as JSON"),
        ('{"text": "a"}', r"lines.jsonl, line 1: a conversation is a list of messages"),
        ("3", r"lines.jsonl, line 1: a conversation is a list of messages"),
        ('[{"role": "user", "content": [{"type": "sound"}]}]', r"line 1: A part of type 'sound'"),
        ('[{"role": "user", "content": [{"type": "image", "image": "none.png"}]}]', r"line 1: .*none.png"),
        ('[{"role": "user", "content": [{"type": "image"}]}]', r"line 1: .*names no media"),
    ],
)
def test_a_file_that_cannot_be_used(folder, tmp_path, content, message):
    path = tmp_path / "lines.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=message) as raised:
        Calibration.read(path).samples(Source.open(folder))
    assert "\n" not in str(raised.value)


def test_no_file_and_no_text(tmp_path):
    for name, content in (("none", None), ("picture.bin", b"\x00"), ("latin.txt", "ä".encode("latin-1"))):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigurationError, match=name):
            Calibration.read(tmp_path / name)


def test_an_answer_is_what_is_compared(folder, lines):
    """The first 16 of its tokens; the next token where there is none."""
    source = Source.open(folder)
    picture, answered, asked = Calibration.read(lines).samples(source)
    for sample in (picture, asked):
        count = len(sample.prompt.token_ids)
        assert range(count)[sample.answering] == range(count - 1, count)
    ids, decode = answered.prompt.token_ids, source.processor.tokenizer.decode
    told = [decode([token]) for token in ids[1:][answered.answering].tolist()]
    assert decode(ids[1 + answered.answering.start :].tolist()) == "the other one<|im_end|>\n"
    assert "".join(told) == "the other one<|im_end|>\n" and 1 < len(told) <= 16
