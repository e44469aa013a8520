"""Tags, round trips and bad input; ids are compared with the original's in tests/reference/qwen_vl."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from paddlemix_qwenvl.errors import GroundingError, MediaError, PromptError


def test_a_picture_takes_258_tokens(tokenizer):
    ids = tokenizer.ids("a<img>图.png</img>b")
    start = ids.index(tokenizer.img_start_id)
    assert bytes(ids[start + 1 : start + 8]) == "图.png".encode()
    assert ids[start + 8 : start + 257] == [tokenizer.img_pad_id] * 249 and ids[start + 257] == tokenizer.img_end_id
    assert tokenizer.decode(ids) == "a<img>图.png</img>b"


@pytest.mark.parametrize("length", [0, 1, 254, 255, 256])
def test_paths_of_every_length(tokenizer, length):
    text = f"<img>{'p' * length}</img>"
    assert len(tokenizer.ids(text)) == 258 and tokenizer.decode(tokenizer.ids(text)) == text


@pytest.fixture(scope="module")
def any_text(tokenizer):
    @settings(max_examples=150, deadline=None)
    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def check(text):
        ids = tokenizer.ids(text, allowed_special=())
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)
        assert max(ids, default=0) < tokenizer.eod_id

    return check


def test_any_text_comes_back(any_text):
    any_text()


def test_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save_pretrained(str(tmp_path))
    again = type(tokenizer).from_pretrained(str(tmp_path))
    text = "<img>a</img>图<box>(1,2),(3,4)</box><|im_start|>"
    assert again.ids(text) == tokenizer.ids(text) and len(again) == len(tokenizer)
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert saved["tokenizer_class"] == "QWenVLTokenizer" and "name_or_path" not in saved


def test_padding_is_on_the_left(tokenizer):
    batch = tokenizer(["the", "the the the"], padding=True, return_tensors="np")
    assert batch["attention_mask"].tolist()[0][-1] == 1 and batch["attention_mask"].tolist()[0][0] == 0
    assert batch["input_ids"][0, 0] == tokenizer.eod_id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<img>a.png", "<img> is not closed: put </img> after it"),
        ("<img>a</img><img>b", "<img> is not closed"),
        ("<img><box></img>", "there is a tag between <img> and </img>"),
        (f"<img>{'图' * 86}</img>", "has 258 bytes, at most 256 fit"),
        (" " * 1_000_000, "cannot be encoded"),
        (None, "give words"),
    ],
)
def test_text_that_cannot_be_encoded(tokenizer, text, message):
    with pytest.raises(PromptError, match=message):
        tokenizer.ids(text)


def test_decoding_takes_what_a_model_may_say(tokenizer):
    start, pad, end = tokenizer.img_start_id, tokenizer.img_pad_id, tokenizer.img_end_id
    assert tokenizer.decode([start, 97]).startswith("<img>")
    assert tokenizer.decode([start, 300, end]).startswith("<img>")
    assert tokenizer.decode([start, 97, pad, end]) == "<img>a</img>"
    assert tokenizer.decode([len(tokenizer) + 5]) == ""


@pytest.mark.parametrize(
    "element",
    [
        {"box": [[1, 2, 3]]},
        {"box": [["1", 2, 3, 4]]},
        {"box": [[float("nan"), 2, 3, 4]]},
        {"box": [7]},
        {"box": 7},
        {"sound": "a.wav"},
        {"text": None},
        {"image": None},
        "words",
    ],
    ids=str,
)
def test_lists_that_cannot_be_written(tokenizer, element):
    with pytest.raises(PromptError):
        tokenizer.from_list_format([element])


def test_boxes_are_put_in_order_and_within_the_picture(tokenizer):
    text = "<ref> a dog</ref><box>(500,250),(0,1200)</box>"
    (box,) = tokenizer.boxes(text, (200, 80))
    assert (box.kind, box.label, box.coords) == ("box", "a dog", (0.0, 20.0, 100.0, 80.0))


def test_a_label_may_hold_any_character_but_tags(tokenizer):
    (first, second) = tokenizer.boxes(
        "<ref>a <b> & </c\n</ref><box>(1,2),(3,4)</box><box>(5,6),(7,8)</box>", (1000, 1000)
    )
    assert first.label == second.label == "a <b> & </c"
    assert (first.coords, second.coords) == ((1, 2, 3, 4), (5, 6, 7, 8))


@pytest.mark.parametrize(
    "text", ["<box>(1,2),(3)</box>", "<box>(1,2),(3,x)</box>", "<box></box>", "<quad>(1,2),(3,4)</quad>"]
)
def test_boxes_that_cannot_be_read(tokenizer, text):
    with pytest.raises(GroundingError, match="expected"):
        tokenizer.boxes(text, (100, 100))


def test_a_cut_response_keeps_its_whole_boxes(tokenizer):
    whole = "<ref>dogs</ref><box>(12,34),(56,78)</box><box>（1，2），（3，4</box>"
    cut = f"{whole}<ref>a cat</ref><box>(12,34),(56,78)</box>"
    wholes = {whole.index("</box>"): "dogs", len(whole): "dogs", cut.rindex("</box>"): "a cat"}  # from where on
    for end in range(len(cut)):
        labels = [item.label for item in tokenizer.boxes(cut[:end], (1000, 1000))]
        assert labels == [label for start, label in wholes.items() if end >= start]
    drawn = tokenizer.draw_bbox_on_latest_picture(f"{whole}<ref>a c", [("<img>street.png</img>", "")])
    assert drawn is not None


def test_boxes_are_drawn_on_the_latest_picture(tokenizer):
    history = [("<img>tower.png</img>", "one"), ("Picture 1:<img>street.png</img>\nwhere?", "there"), ("sure?", "yes")]
    drawn = tokenizer.draw_bbox_on_latest_picture("<ref>tower</ref><box>(100,100),(500,900)</box>", history)
    assert drawn.width / drawn.height == 1.5
    with Image.open("street.png") as before:
        assert drawn.resize(before.size).tobytes() != before.convert("RGB").tobytes()
    assert tokenizer.draw_bbox_on_latest_picture("no box", history) is None
    assert tokenizer.draw_bbox_on_latest_picture("<box>(1,2),(3,4)</box>") is None
    with pytest.raises(MediaError, match="missing"):
        tokenizer.draw_bbox_on_latest_picture("<box>(1,2),(3,4)</box>", [("<img>missing.png</img>", "")])
