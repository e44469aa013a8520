"""The checkpoint in the package: small, complete, and right about colours."""

from pathlib import Path

import paddle
import pytest
import scenes

import paddlemix_qwenvl
from paddlemix_qwenvl.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

FOLDER = paddlemix_qwenvl.__path__[0] + "/demo"


@pytest.fixture(scope="module")
def demo():
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained("demo")
    return model, Qwen2_5_VLProcessor.from_pretrained("demo")


def test_it_has_the_hubs_files_and_is_small():
    names = {path.name: path.stat().st_size for path in Path(FOLDER).iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "vocab.json", "merges.txt"} <= set(names)
    assert {"tokenizer_config.json", "preprocessor_config.json", "generation_config.json"} <= set(names)
    assert sum(names.values()) < 8e6


def test_it_names_the_colour_of_a_single_shape(demo):
    model, processor = demo
    right = 0
    for seed in range(12):
        scene = scenes.draw_scene(scenes.Random(seed), (112, 112), 1)
        conversation = scenes.messages([scene], [("What do you see?", "")])[:1]
        inputs = processor.apply_chat_template(
            conversation, add_generation_prompt=True, tokenize=True, return_tensors="pd"
        )
        with paddle.no_grad():
            ids, _ = model.generate(**inputs, max_new_tokens=20)
        right += scene.shapes[0].color in processor.post_process(ids)[0]
    assert right >= 11
