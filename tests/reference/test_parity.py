"""The package against transformers 4.51.3, float32: what issue 2 asks for, on every case that make_reference.py wrote."""

import functools
import os

import numpy as np
import paddle
import pytest
from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor, AutoTokenizer
from reading import Reference, model_inputs, open_images, open_videos, read_safetensors, relative_error
from safetensors import safe_open

import paddlemix_qwenvl  # noqa: F401  (importing it teaches the Auto classes the families)

TOLERANCE = 1e-4
PIXEL_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 3e-4

reference = Reference(os.environ["QWENVL_REFERENCE"])


def case_id(case: dict) -> str:
    return f"{case['checkpoint']}-{case['name']}"


every_case = pytest.mark.parametrize("case", reference.cases.values(), ids=case_id)
every_checkpoint = pytest.mark.parametrize("name", reference.checkpoints)


def load_model(checkpoint: str):
    model = AutoModelForConditionalGeneration.from_pretrained(str(reference.checkpoint(checkpoint)), dtype="float32")
    model.eval()
    return model


model_of = functools.cache(load_model)


@functools.cache
def processor_of(checkpoint: str):
    return AutoProcessor.from_pretrained(str(reference.checkpoint(checkpoint)))


def case_arrays(case: dict) -> dict[str, np.ndarray]:
    return reference.arrays(case["file"])


def tensors_of(arrays: dict) -> dict:
    return {name: paddle.to_tensor(value) for name, value in model_inputs(arrays).items()}


@every_case
def test_template_and_processor(case):
    processor, expected = processor_of(case["checkpoint"]), case_arrays(case)
    texts = [
        processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True, **case["template"])
        for conversation in case["conversations"]
    ]
    assert texts == case["texts"]

    images = open_images(case["conversations"], reference.folder)
    videos = open_videos(case["conversations"], reference.folder)
    options = {"fps": case["fps"]} if case["fps"] else {}
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
    expected = case_arrays(case)
    inputs = tensors_of(expected)
    inputs.pop("pixel_values", None)
    inputs.pop("pixel_values_videos", None)
    positions, deltas = model_of(case["checkpoint"]).get_rope_index(**inputs)
    attended = expected["attention_mask"] == 1
    np.testing.assert_array_equal(positions.numpy()[:, attended], expected["position_ids"][:, attended])
    np.testing.assert_array_equal(deltas.numpy(), expected["rope_deltas"])


@every_case
def test_vision_features(case):
    model, expected = model_of(case["checkpoint"]), case_arrays(case)
    inputs = tensors_of(expected)
    for kind, values in (("image", "pixel_values"), ("video", "pixel_values_videos")):
        if values in inputs:
            with paddle.no_grad():
                features = model.visual(inputs[values], inputs[f"{kind}_grid_thw"]).numpy()
            assert relative_error(features, expected[f"{kind}_features"]) <= TOLERANCE


@every_case
def test_logits(case):
    expected = case_arrays(case)
    with paddle.no_grad():
        logits = model_of(case["checkpoint"])(**tensors_of(expected)).logits.numpy()
    start = int(expected["logits_start"])
    attended = expected["attention_mask"][:, start:] == 1
    assert relative_error(logits[:, start:][attended], expected["logits"][attended]) <= TOLERANCE


@every_checkpoint
@pytest.mark.parametrize("quantization, least", [(None, 0.999), ("int8", 0.995)], ids=["bfloat16", "int8"])
def test_narrow_weights(name, quantization, least):
    """Last tokens' logits with bfloat16 or int8 weights against those in float32."""
    narrow = AutoModelForConditionalGeneration.from_pretrained(
        str(reference.checkpoint(name)), dtype="bfloat16", quantization=quantization
    )
    narrow.eval()
    for case in (case for case in reference.cases.values() if case["checkpoint"] == name):
        inputs = tensors_of(case_arrays(case))
        with paddle.no_grad():
            found, wanted = (model(**inputs).logits.numpy() for model in (narrow, model_of(name)))
        last = inputs["attention_mask"].shape[1] - 1 - inputs["attention_mask"].numpy()[:, ::-1].argmax(1)
        for row, place in enumerate(last):
            one, other = found[row, place], wanted[row, place]
            assert one @ other > least * np.linalg.norm(one) * np.linalg.norm(other), (case["name"], row)


@every_case
def test_loss(case):
    expected = case_arrays(case)
    with paddle.no_grad():
        output = model_of(case["checkpoint"])(**tensors_of(expected), labels=paddle.to_tensor(expected["labels"]))
    assert float(output.loss) == pytest.approx(float(expected["loss"]), rel=TOLERANCE)


@pytest.mark.parametrize("case", [case for case in reference.cases.values() if case["gradients"]], ids=case_id)
def test_gradients(case, tmp_path):
    model = load_model(case["checkpoint"])
    arrays = case_arrays(case)
    model(**tensors_of(arrays), labels=paddle.to_tensor(arrays["labels"])).loss.backward()
    for parameter in model.parameters():
        parameter.set_value(parameter.grad)
    model.save_pretrained(str(tmp_path))  # under the files' names, in the files' orientation
    found, expected = read_safetensors(tmp_path), reference.arrays(case["gradients"])
    assert found.keys() == expected.keys()
    errors = {name: relative_error(found[name], gradient) for name, gradient in expected.items()}
    assert max(errors.values()) <= GRADIENT_TOLERANCE, max(errors, key=errors.get)


@every_case
def test_generated_tokens(case):
    model, expected = model_of(case["checkpoint"]), case_arrays(case)
    for name, arguments in case["generations"].items():
        ids, _ = model.generate(**tensors_of(expected), **arguments)
        np.testing.assert_array_equal(ids.numpy(), expected[name], err_msg=name)


@every_case
def test_decoded_text(case):
    ids = case_arrays(case)["greedy_ids"]
    assert processor_of(case["checkpoint"]).batch_decode(ids, skip_special_tokens=True) == case["decoded"]


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
    expected = reference.arrays(pictures["file"])
    np.testing.assert_array_equal(result["image_grid_thw"], expected[f"{name}/image_grid_thw"])
    assert np.abs(result["pixel_values"] - expected[f"{name}/pixel_values"]).max() <= PIXEL_TOLERANCE


@every_checkpoint
def test_saving_gives_back_the_same_tensors(name, tmp_path):
    model_of(name).save_pretrained(str(tmp_path))
    for file in tmp_path.glob("*.safetensors"):
        with safe_open(file, "numpy") as opened:
            assert opened.metadata()["format"] == "pt"
    written, original = read_safetensors(tmp_path), read_safetensors(reference.checkpoint(name))
    assert written.keys() == original.keys()
    for key, value in original.items():
        np.testing.assert_array_equal(written[key], value, err_msg=key)
