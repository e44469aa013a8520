"""The model against the original PyTorch code (make_golden.py), float32: pixels, features, logits, tokens."""

import functools
import json
from pathlib import Path

import numpy as np
import paddle
import pytest
import qwen_vl_cases as cases
from safetensors.numpy import save_file

from paddlemix_qwenvl import QWenLMHeadModel
from paddlemix_qwenvl.models.qwen_vl.images import read_pictures

TOLERANCE = 1e-4
PIXEL_TOLERANCE = 1e-5
GOLDEN = Path(__file__).with_name("models.npz")

every_config = pytest.mark.parametrize("name", cases.CONFIGS)
every_prompt = pytest.mark.parametrize("prompt", cases.PROMPTS)


@functools.cache
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures, and a model folder for each config."""
    folder = tmp_path_factory.mktemp("qwen_vl")
    cases.draw_pictures(folder)
    for name, config in cases.CONFIGS.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
        save_file(cases.tensors(config), folder / name / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def models(folder):
    return {name: QWenLMHeadModel.from_pretrained(folder / name, dtype="float32") for name in cases.CONFIGS}


@pytest.fixture(autouse=True)
def beside_the_pictures(folder, monkeypatch):
    """The prompts name the pictures as files of the folder they are run in."""
    monkeypatch.chdir(folder)


def relative_error(found, expected) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def inputs(name: str, prompt: str) -> dict:
    arrays = golden()
    ids, mask = (arrays[f"{name}/{prompt}/{key}"].astype(np.int64) for key in ("ids", "mask"))
    return {"input_ids": paddle.to_tensor(ids), "attention_mask": paddle.to_tensor(mask)}


@every_config
def test_pixels_and_features(models, name):
    side = cases.CONFIGS[name]["visual"]["image_size"]
    pixels, _ = read_pictures(list(cases.PICTURES), side)
    expected = golden()[f"{name}/pixels"]
    step = round(side / expected.shape[-1])
    assert np.abs(pixels[:, :, ::step, ::step] - expected).max() <= PIXEL_TOLERANCE
    expected = golden()[f"{name}/features"]
    with paddle.no_grad():
        features = models[name].encode(paddle.to_tensor(pixels)).reshape([len(pixels), -1, expected.shape[-1]])
    assert relative_error(features.numpy()[:, ::3], expected) <= TOLERANCE


@every_prompt
@every_config
def test_logits(models, name, prompt):
    expected = golden()[f"{name}/{prompt}/logits"]
    with paddle.no_grad():
        logits = models[name](**inputs(name, prompt)).logits.numpy()
    found = np.stack([logits[row, place] for row, place in golden()[f"{name}/{prompt}/places"]])
    assert relative_error(found, expected) <= TOLERANCE


@every_prompt
@every_config
def test_greedy_tokens(models, name, prompt):
    """32 tokens, past `seq_length` for "long" and across it for "border"; and the scores of the last step."""
    tokens, last = [], {}
    model, given = models[name], inputs(name, prompt)
    step = model.step

    def remember(*arguments, **others):
        last["scores"] = step(*arguments, **others)
        return last["scores"]

    model.step = remember
    try:
        tokens, _ = model.generate(**given, max_new_tokens=cases.NEW_TOKENS, do_sample=False, eos_token_id=[])
    finally:
        del model.step
    np.testing.assert_array_equal(tokens.numpy(), golden()[f"{name}/{prompt}/tokens"])
    assert relative_error(last["scores"].numpy(), golden()[f"{name}/{prompt}/last_scores"]) <= TOLERANCE


def test_what_the_prompts_put_to_work():
    """Dynamic NTK and log-n in the prompt, and the border of `seq_length` within the answer."""
    for name, config in cases.CONFIGS.items():
        lengths = {prompt: golden()[f"{name}/{prompt}/ids"].shape[1] for prompt in cases.PROMPTS}
        seq_length = config["seq_length"]
        assert lengths["long"] > 2 * seq_length
        assert lengths["border"] < seq_length < lengths["border"] + cases.NEW_TOKENS
