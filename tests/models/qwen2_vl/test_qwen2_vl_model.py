"""The model: an answer with pictures and a video, the same from graphs, int8, saving, gradients, the host's Auto classes."""

import hub_model
import numpy as np
import paddle
import pytest
from paddlenlp.transformers import AutoConfig, AutoModelForConditionalGeneration, AutoProcessor

import paddlemix_qwenvl
from paddlemix_qwenvl import Qwen2VLForConditionalGeneration
from paddlemix_qwenvl.static.export import export
from paddlemix_qwenvl.static.loading import load_export

GREEDY = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "repetition_penalty": 1.0}


def noise(width: int, height: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def said(text: str, *media) -> list:
    return [{"role": "user", "content": [*media, {"type": "text", "text": text}]}]


FILM = {"type": "video", "video": [noise(84, 56, seed) for seed in range(6)], "fps": 1.0}
PICTURE, TALL = ({"type": "image", "image": noise(*size, 9)} for size in ((112, 84), (30, 200)))
BATCH = [said("Hi"), said("When?", FILM, PICTURE), said("Compare", TALL, PICTURE)]


@pytest.fixture(scope="module")
def inputs(its_processor):
    return its_processor.apply_chat_template(BATCH, add_generation_prompt=True, tokenize=True, return_tensors="pd")


def test_tokens_are_those_of_whole_passes_and_of_graphs(small, its_processor, inputs, tmp_path):
    ids = small.generate(**inputs, **GREEDY)[0]
    for row, conversation in enumerate(BATCH):
        one = its_processor.apply_chat_template(
            [conversation], add_generation_prompt=True, tokenize=True, return_tensors="pd"
        )
        given = {name: value for name, value in one.items() if not name.endswith("_sizes")}
        given["input_ids"] = paddle.concat([given["input_ids"], ids[row : row + 1, :-1]], axis=1)
        given["attention_mask"] = paddle.ones_like(given["input_ids"])
        with paddle.no_grad():
            logits = small(**given).logits
        assert logits[0, -5:].argmax(-1).tolist() == ids[row].tolist()
    export(small, its_processor, tmp_path, name="tiny", say=lambda line: None)
    assert [each.token_ids for each in load_export(tmp_path).answer_all(BATCH, **GREEDY)] == ids.tolist()


def test_int8_is_near(small, folder, inputs):
    narrow = Qwen2VLForConditionalGeneration.from_pretrained(folder, quantization="int8")
    given = {name: value for name, value in inputs.items() if not name.endswith("_sizes")}
    one, other = (model(**given).logits.numpy().ravel() for model in (small, narrow))
    assert one @ other > 0.995 * np.linalg.norm(one) * np.linalg.norm(other) and (one != other).any()


def test_what_is_saved_is_what_was_loaded(small, its_tensors, tmp_path):
    hub_model.assert_same(hub_model.held_tensors(small, tmp_path), its_tensors)


@pytest.mark.parametrize("tied", [False, True])
def test_gradients_reach_every_parameter(tmp_path, inputs, tied):
    config = hub_model.qwen2_vl_config(tie_word_embeddings=tied)
    model = Qwen2VLForConditionalGeneration.from_pretrained(
        hub_model.write(tmp_path, config, hub_model.tensors(config))
    )
    given = {name: value for name, value in inputs.items() if not name.endswith("_sizes")}
    labels = paddle.where(given["attention_mask"] == 1, given["input_ids"], paddle.to_tensor(-100))
    model(**given, labels=labels).loss.backward()
    for name, parameter in model.named_parameters():
        assert np.abs(parameter.grad.numpy()).max() > 1e-8, name


def test_the_hosts_auto_classes(folder):
    assert isinstance(AutoConfig.from_pretrained(str(folder)), paddlemix_qwenvl.Qwen2VLConfig)
    model = AutoModelForConditionalGeneration.from_pretrained(str(folder), dtype="float32")
    assert isinstance(model, Qwen2VLForConditionalGeneration)
    assert isinstance(AutoProcessor.from_pretrained(str(folder)), paddlemix_qwenvl.Qwen2VLProcessor)


def test_half_a_layer_at_a_time_the_tower_is_the_same(small):
    grids = np.array([[1, 4, 6], [2, 8, 4]])
    patches = np.random.default_rng(0).standard_normal([24 + 64, small.config.vision_config.patch_dim])
    given = paddle.to_tensor(patches.astype(np.float32)), paddle.to_tensor(grids)
    with paddle.no_grad():
        *pieces, features = small.encoding(*given)
        assert pieces == [None] * 2 * small.config.vision_config.depth
        np.testing.assert_array_equal(features.numpy(), small.encode(*given).numpy())
