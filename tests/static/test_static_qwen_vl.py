"""Graphs of Qwen-VL: what they answer is what the dynamic model answers."""

import json
import shutil

import pytest

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.static.loading import load_export

GREEDY = {"max_new_tokens": 64, "min_new_tokens": 64, "do_sample": False}


@pytest.fixture(scope="module")
def predictor(qwen_vl_folder):
    return load_export(qwen_vl_folder)


BATCHES = {
    "one picture": (["Picture 1:<img>a</img>\nthe thing in an image"], [(300, 200)]),
    "two pictures": (["<img>a</img> and <img>b</img>: the é 图?"], [(61, 450), (448, 448)]),
    "text": (["then in an"], []),
    "a batch": (["the", "<img>a</img>", "in <img>b</img> an er the in an er " * 2], [(90, 60), (30, 30), (500, 20)]),
}


@pytest.mark.parametrize("name", BATCHES)
def test_static_tokens_are_the_dynamic_ones(qwen_vl, predictor, noise, name):
    model, processor = qwen_vl
    texts, sizes = BATCHES[name]
    images = [noise(*size, seed) for seed, size in enumerate(sizes)]
    for text in texts:
        own, images = images[: text.count("<img>")], images[text.count("<img>") :]
        inputs = processor(text=[text], images=own or None, padding=True, return_tensors="pd")
        expected, _ = model.generate(**inputs, **GREEDY)
        answer = predictor.complete(text, own, **GREEDY)
        assert answer.token_ids == expected[0].tolist()
        assert answer.prompt_tokens == inputs["input_ids"].shape[1]
        assert answer.sizes.get("original_sizes", []) == [picture.shape[1::-1] for picture in own]


def test_a_chat(qwen_vl, predictor, tmp_path, noise):
    from PIL import Image

    model, processor = qwen_vl
    path = str(tmp_path / "a.png")
    Image.fromarray(noise(80, 60, 0)).save(path)
    query = processor.tokenizer.from_list_format([{"image": path}, {"text": "the thing?"}])
    response, _ = model.chat(processor.tokenizer, query, max_new_tokens=20)
    messages = [{"role": "user", "content": [{"image": path}, {"text": "the thing?"}]}]
    assert predictor.answer(messages, max_new_tokens=20).text == response


def test_a_model_that_is_no_chat_model_gets_the_words_alone(qwen_vl_folder, noise, tmp_path):
    folder = shutil.copytree(qwen_vl_folder, tmp_path / "raw")
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_format": "raw"}))
    predictor = load_export(folder, verify=False)
    picture = noise(50, 50, 0)
    found = predictor.answer([{"role": "user", "content": [{"image": picture}, {"text": "the"}]}], **GREEDY)
    assert found.token_ids == predictor.complete("Picture 1:<img>1</img>\nthe", [picture], **GREEDY).token_ids


def test_what_cannot_be_answered_is_refused(predictor, noise):
    with pytest.raises(PromptError, match="no videos"):
        predictor.complete("the", [], [[noise(20, 20, 0)]])
    with pytest.raises(PromptError, match="1 <img> in the text but 2 images"):
        predictor.complete("<img>a</img>", [noise(20, 20, 0)] * 2)
