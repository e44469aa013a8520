"""The demo's tokenizer: any text goes through, scenes' words and digits are single tokens."""

import pytest
import scenes
import tokenizer as demo_tokenizer

from paddlemix_qwenvl import Qwen2_5_VLProcessor


@pytest.fixture(scope="module")
def tokenizer(processor_folder):
    return Qwen2_5_VLProcessor.from_pretrained(str(processor_folder)).tokenizer


@pytest.mark.parametrize("text", ["Wörter, die es nicht gibt!", "红色的圆形 🟥", "a\t b\n\n c  ", "1234 no-such-word"])
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_words_digits_and_box_parts_are_single_tokens(tokenizer):
    words = [*scenes.WORDS, *(f" {kind}" for kind in scenes.SHAPES), *(f" {color}" for color in scenes.COLORS), "7"]
    for word in [*words, *demo_tokenizer.BOX_TOKENS]:
        assert len(tokenizer(word)["input_ids"]) == 1, word
    assert len(tokenizer("336")["input_ids"]) == 3


def test_special_tokens_are_all_there_and_skipped_in_decoding(tokenizer):
    for token in demo_tokenizer.hub.SPECIAL_TOKENS:
        (number,) = tokenizer(token)["input_ids"]
        assert tokenizer.decode([number], skip_special_tokens=True) == ""
    box = tokenizer('```json\n[\n\t{"bbox_2d": [')["input_ids"]
    assert tokenizer.decode(box, skip_special_tokens=True) == '```json\n[\n\t{"bbox_2d": ['


def test_an_example_becomes_labels_of_the_answer_alone(processor_folder):
    from lessons import IGNORED, encode

    processor = Qwen2_5_VLProcessor.from_pretrained(str(processor_folder))
    drawn, question, answer = scenes.example("describe", 1)
    batch = encode(processor, [scenes.messages(drawn, [(question, answer)])])
    said = batch["labels"][0][batch["labels"][0] != IGNORED]
    assert processor.tokenizer.decode(said) == answer + "<|im_end|>"
    width, height = scenes.resized(drawn[0].image.size)
    assert batch["image_grid_thw"].tolist() == [[1, height // 14, width // 14]]
