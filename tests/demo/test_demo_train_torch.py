"""Training in PyTorch: the processor without Paddle gives what the package's gives, and batches say where everything goes."""

import json
from dataclasses import replace

import lessons
import numpy as np
import pytest
import scenes
import tokenizer as demo_tokenizer
import train_torch
from lessons import CURRICULUM, encode_pictures, encode_text
from safetensors.numpy import load_file

from paddlemix_qwenvl import Qwen2_5_VLProcessor
from paddlemix_qwenvl.hub import DEMO
from paddlemix_qwenvl.media.patches import IMAGE_MEAN, IMAGE_STD


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    demo_tokenizer.save_processor(folder)
    return str(folder)


def test_inputs_are_those_of_the_packages_processor(folder):
    examples = [scenes.example("locate", seed) for seed in range(3)]
    turns = [scenes.messages(drawn, [(question, answer)]) for drawn, question, answer in examples]
    found, wanted = [], []
    for made, processor in (
        (found, train_torch.Processor(folder)),
        (wanted, Qwen2_5_VLProcessor.from_pretrained(folder)),
    ):
        pictures = encode_pictures(processor, [drawn[0].image for drawn, _, _ in examples])
        made += [pictures, encode_text(processor, turns, pictures["image_grid_thw"])]
    for name, values in wanted[1].items():
        np.testing.assert_array_equal(found[1][name], values)
    np.testing.assert_array_equal(found[0]["image_grid_thw"], wanted[0]["image_grid_thw"])
    bytes_ = found[0]["pixel_values"].reshape(-1, 3, 1, 196)
    mean, std = (np.array(v)[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))
    pixels = np.broadcast_to((bytes_ / 255 - mean) / std, (len(bytes_), 3, 2, 196)).reshape(len(bytes_), -1)
    np.testing.assert_allclose(pixels, wanted[0]["pixel_values"], atol=1e-6)


def test_batches_say_where_everything_goes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "POOL", 1)
    monkeypatch.setattr(train_torch, "stage", lambda batch: replace(CURRICULUM[-1], sides=(84, 112), batch=batch))
    config = json.loads((DEMO / "config.json").read_text())
    batches = train_torch.torch_batches(train_torch.Processor(folder), config, str(tmp_path), 0, 0, 3)
    batch = load_file(next(batches))
    ids = batch["input_ids"].ravel()
    end = train_torch.Processor(folder).convert_tokens_to_ids("<|im_end|>")
    assert (ids[batch["places"] + 1] == batch["expected"]).all() and (batch["expected"] == end).any()
    assert (ids[batch["image_places"]] == config["image_token_id"]).all()
    assert len(batch["patch_labels"]) == len(batch["image_places"]) == len(batch["restore"])
    for kind in ("full", "window"):
        places, taken = batch[f"{kind}_places"], batch[f"{kind}_taken"]
        assert taken.ravel()[places].all() and taken.sum() == len(places) == len(batch["pixel_values"])
