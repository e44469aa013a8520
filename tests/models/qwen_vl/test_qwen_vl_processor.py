"""Questions with pictures to inputs, ids to text."""

import json

import numpy as np
import paddle
import pytest
from PIL import Image

from paddlemix_qwenvl import QWenVLProcessor
from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.errors import MediaError, PromptError
from paddlemix_qwenvl.grounding import parse


def test_a_query_is_an_answered_question(model, processor, tokenizer):
    query = [{"image": "street.png"}, {"text": "the"}]
    inputs = processor(query=query, return_tensors="pd")
    assert inputs["images"].shape == [1, 3, 112, 112] and inputs["input_ids"].shape == inputs["attention_mask"].shape
    ids = model.generate(**inputs, max_new_tokens=3, eos_token_id=[])
    assert processor.decode(ids[0]) == processor.batch_decode(ids)[0] == tokenizer.decode(ids[0][0].tolist())


def test_pictures_by_path_and_as_pictures(processor):
    by_path = processor(text="<img>tower.png</img>", return_tensors="np")
    picture = Image.open("tower.png")
    as_picture = processor(text="<img></img>", images=picture, return_tensors="np")
    np.testing.assert_array_equal(by_path["images"], as_picture["images"])
    assert by_path["original_sizes"] == as_picture["original_sizes"] == [(61, 450)]
    assert by_path["images"].dtype == np.float32
    said = "<ref>the tower</ref><box>(100,200),(500,1000)</box>"
    (item,) = parse(said, by_path["original_sizes"], by_path["resized_sizes"])
    assert item.coords == (6.1, 90.0, 30.5, 450.0)


def test_what_is_transparent_lies_on_white(processor):
    clear, white = Image.new("RGBA", (30, 20)), Image.new("RGB", (30, 20), "white")
    found, wanted = (processor(text="<img></img>", images=picture, return_tensors="np") for picture in (clear, white))
    np.testing.assert_array_equal(found["images"], wanted["images"])


def test_text_alone_and_lists(processor):
    inputs = processor(text=["the", "the in"])
    assert set(inputs) == {"input_ids", "attention_mask"} and len(inputs["input_ids"]) == 2
    assert isinstance(processor("the", return_tensors="pd")["input_ids"], paddle.Tensor)


def test_messages(processor):
    messages = [
        {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "That."},
        {"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (2, 2))}]},
    ]
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nPicture 1:<img>a.png</img>\nWhat?<|im_end|>\n"
        "<|im_start|>assistant\nThat.<|im_end|>\n"
        "<|im_start|>user\nPicture 2:<img>2</img>\n<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    with pytest.raises(PromptError, match="neither a picture nor text"):
        processor.apply_chat_template([{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}])
    with pytest.raises(PromptError, match="type 'sound'"):
        processor.apply_chat_template([{"role": "user", "content": [{"type": "sound", "sound": "a.wav"}]}])


def test_messages_to_a_model_that_is_no_chat_model(tokenizer, tmp_path):
    """Its generation_config.json says so, as that of Qwen/Qwen-VL does."""
    tokenizer.save_pretrained(str(tmp_path))
    visual = {"image_size": 112, "image_start_id": tokenizer.img_start_id}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen", "visual": visual}))
    messages = [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "It is"}]}]
    assert "<|im_start|>" in QWenVLProcessor.from_pretrained(str(tmp_path)).apply_chat_template(messages)
    (tmp_path / "generation_config.json").write_text(json.dumps({"chat_format": "raw"}))
    processor = QWenVLProcessor.from_pretrained(str(tmp_path))
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == "Picture 1:<img>a.png</img>\nIt is"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, PromptError, "query=.* or text="),
        ({"query": "a", "text": "b"}, PromptError, "one of the two"),
        ({"query": 5}, PromptError, "5 is no list of elements"),
        ({"text": 5}, PromptError, "text is 5: give one prompt or a list"),
        ({"text": []}, PromptError, r"text is \[\]: give one prompt or a list"),
        ({"text": "caf\udce9"}, PromptError, "UTF-8"),
        ({"text": "<img>tower.png</img>", "images": []}, PromptError, "1 <img> in the text but 0 images"),
        ({"text": "a", "videos": ["a.mp4"]}, PromptError, "no videos"),
        ({"text": "<img>nowhere.png</img>"}, MediaError, "nowhere.png"),
        ({"query": [{"image": "street.png"}, {"text": "<img>"}]}, PromptError, "not closed"),
    ],
)
def test_bad_input(processor, arguments, error, message):
    with pytest.raises(error, match=message):
        processor(**arguments)


def test_saved_and_loaded(processor, tmp_path):
    processor.save_pretrained(str(tmp_path))
    again = QWenVLProcessor.from_pretrained(str(tmp_path))
    assert again.tokenizer.ids("<img>a</img>") == processor.tokenizer.ids("<img>a</img>")
    assert again.image_processor.image_size == 448


def test_one_question_as_the_command_line_asks_it(folder):
    """Pictures go through the host's message format, which both families share."""
    answer = Assistant.load(str(folder), dtype="float32").ask("the", [Image.open("street.png")], max_new_tokens=3)
    assert len(answer.token_ids) <= 3 and answer.prompt_tokens > 258 and answer.seconds["vision"] > 0


def test_what_is_meant_for_the_tokenizer_is_not_asked_of_the_config(folder):
    loaded = QWenVLProcessor.from_pretrained(str(folder), padding_side="right")
    assert loaded.tokenizer.padding_side == "right"
