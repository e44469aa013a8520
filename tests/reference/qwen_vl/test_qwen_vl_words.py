"""Tokenizer, prompts, lists and boxes against the original code (make_golden.py), with the real vocabulary."""

import json
from pathlib import Path

import pytest
import qwen_vl_cases as cases

from paddlemix_qwenvl import QWenVLTokenizer
from paddlemix_qwenvl.models.qwen_vl.prompt import chat_ids

WORDS = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return QWenVLTokenizer.from_pretrained(str(cases.write_tokenizer(tmp_path_factory.mktemp("tokenizer"))))


@pytest.mark.parametrize("case", WORDS["encoded"], ids=lambda case: ascii(case["text"])[:30])
def test_ids_and_text(tokenizer, case):
    assert tokenizer(case["text"])["input_ids"] == case["ids"]
    assert tokenizer(case["text"], allowed_special=set())["input_ids"] == case["plain"]
    assert tokenizer.decode(case["ids"]) == case["decoded"]
    assert tokenizer.decode(case["ids"], skip_special_tokens=True) == case["skipped"]


@pytest.mark.parametrize("case", WORDS["chats"], ids=lambda case: ascii(case["query"])[:30])
def test_conversations(tokenizer, case):
    """ChatML, old turns left out, nobody forges a turn."""
    assert chat_ids(tokenizer, case["query"], case["history"], case["system"], case["window"]) == case["ids"]


def test_old_turns_are_left_out():
    long, short = (next(case for case in WORDS["chats"] if case["query"] == query) for query in ("last", "pictures"))
    assert len(long["ids"]) < 250 and len(short["ids"]) < 400


@pytest.mark.parametrize("case", WORDS["lists"], ids=lambda case: ascii(case["text"])[:30])
def test_lists(tokenizer, case):
    assert tokenizer.from_list_format(case["list"]) == case["text"]
    assert tokenizer.to_list_format(case["text"]) == case["back"]


def test_boxes(tokenizer):
    """In the pixels of a picture of 1 000 x 1 000 the numbers are the original's own."""
    case = WORDS["boxes"]
    boxes = [item for item in tokenizer.boxes(case["text"], (1000, 1000)) if item.kind == "box"]
    assert [list(map(int, item.coords)) for item in boxes] == [found["box"] for found in case["boxes"]]
    assert boxes[0].label == case["boxes"][0]["ref"]
