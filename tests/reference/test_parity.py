"""The package against transformers 4.51.3, float32: what issue 2 asks for, on every case that make_reference.py wrote."""

import functools
import os

import numpy as np
import paddle
import pytest
from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor, AutoTokenizer
from reading import Reference, model_inputs, relative_error
from safetensors import safe_open
from safetensors.numpy import load_file

import paddlemix_qwenvl  # noqa: F401  (importing it teaches the Auto classes the families)

TOLERANCE = 1e-4
PIXEL_TOLERANCE = 1e-5

reference = Reference(os.environ["QWENVL_REFERENCE"])
every_case = pytest.mark.parametrize("case", reference.cases.values(), ids=reference.cases)
every_checkpoint = pytest.mark.parametrize("name", reference.checkpoints)


@functools.cache
def model_of(checkpoint: str):
    model = AutoModelForConditionalGeneration.from_pretrained(str(reference.checkpoint(checkpoint)), dtype="float32")
    model.eval()
    return model


@functools.cache
def processor_of(checkpoint: str):
    return AutoProcessor.from_pretrained(str(reference.checkpoint(checkpoint)))


def tensors_of(arrays: dict) -> dict:
    return {name: paddle.to_tensor(value) for name, value in model_inputs(arrays).items()}


@every_case
def test_template_and_processor(case):
    processor, expected = processor_of(case["checkpoint"]), reference.arrays(case)
    texts = [
        processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True, **case["template"])
        for conversation in case["conversations"]
    ]
    assert texts == case["texts"]

    images, videos = reference.images(case), reference.videos(case)
    options = {"fps": case["fps"]} if videos else {}
    inputs = processor(
        text=texts, images=images or None, videos=videos or None, padding=True, return_tensors="np", **options
    )
    wanted = model_inputs(expected)
    for name in ("pixel_values", "pixel_values_videos"):
        if name in wanted:
            assert np.abs(inputs[name] - wanted.pop(name)).max() <= PIXEL_TOLERANCE
        else:
            assert name not in inputs
    for name, value in wanted.items():
        np.testing.assert_array_equal(inputs[name], value, err_msg=name)


@every_case
def test_positions(case):
    expected = reference.arrays(case)
    inputs = tensors_of(expected)
    inputs.pop("pixel_values", None)
    inputs.pop("pixel_values_videos", None)
    positions, deltas = model_of(case["checkpoint"]).get_rope_index(**inputs)
    attended = expected["attention_mask"] == 1
    np.testing.assert_array_equal(positions.numpy()[:, attended], expected["position_ids"][:, attended])
    np.testing.assert_array_equal(deltas.numpy(), expected["rope_deltas"])


@every_case
def test_vision_features_logits_and_loss(case):
    model, expected = model_of(case["checkpoint"]), reference.arrays(case)
    inputs = tensors_of(expected)
    with paddle.no_grad():
        for kind, values, grid in (
            ("image", "pixel_values", "image_grid_thw"),
            ("video", "pixel_values_videos", "video_grid_thw"),
        ):
            if values in inputs:
                features = model.visual(inputs[values], inputs[grid]).numpy()
                assert relative_error(features, expected[f"{kind}_features"]) <= TOLERANCE
        output = model(**inputs, labels=paddle.to_tensor(expected["labels"]))
    start = int(expected["logits_start"])
    attended = expected["attention_mask"][:, start:] == 1
    logits = output.logits.numpy()[:, start:]
    assert relative_error(logits[attended], expected["logits"][attended]) <= TOLERANCE
    assert abs(float(output.loss) / float(expected["loss"]) - 1) <= TOLERANCE


@every_case
def test_generated_tokens(case):
    model, expected = model_of(case["checkpoint"]), reference.arrays(case)
    for name, arguments in case["generations"].items():
        ids, _ = model.generate(**tensors_of(expected), **arguments)
        np.testing.assert_array_equal(ids.numpy(), expected[name], err_msg=name)
    decoded = processor_of(case["checkpoint"]).batch_decode(expected["greedy_ids"], skip_special_tokens=True)
    assert decoded == case["decoded"]


@every_checkpoint
def test_tokenizer(name):
    tokenizer = AutoTokenizer.from_pretrained(str(reference.checkpoint(name)))
    for pair in reference.manifest["checkpoints"][name]["tokenizations"]:
        assert tokenizer(pair["text"])["input_ids"] == pair["ids"], pair["text"]
        assert tokenizer.decode(pair["ids"]) == pair["decoded"]
        assert tokenizer.decode(pair["ids"], skip_special_tokens=True) == pair["decoded_without_special_tokens"]


@pytest.mark.parametrize("name", reference.manifest["pictures"]["names"])
def test_pictures_of_every_kind(name):
    pictures = reference.manifest["pictures"]
    image_processor = processor_of(pictures["checkpoint"]).image_processor
    result = image_processor(images=[str(reference.folder / pictures["folder"] / name)], return_tensors="np")
    with np.load(reference.folder / pictures["file"]) as expected:
        np.testing.assert_array_equal(result["image_grid_thw"], expected[f"{name}/image_grid_thw"])
        assert np.abs(result["pixel_values"] - expected[f"{name}/pixel_values"]).max() <= PIXEL_TOLERANCE


@every_checkpoint
def test_saving_gives_back_the_same_tensors(name, tmp_path):
    model_of(name).save_pretrained(str(tmp_path))
    written, original = ({}, {})
    for tensors, folder in ((written, tmp_path), (original, reference.checkpoint(name))):
        for file in folder.glob("*.safetensors"):
            with safe_open(file, "numpy") as opened:
                assert opened.metadata()["format"] == "pt"
            tensors.update(load_file(file))
    assert written.keys() == original.keys()
    for key, value in original.items():
        np.testing.assert_array_equal(written[key], value, err_msg=key)
