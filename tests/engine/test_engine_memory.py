"""What a picture takes beside the caller's own tensors."""

import numpy as np
import paddle
import pytest

from paddlemix_qwenvl.engine import encoder
from paddlemix_qwenvl.engine.runner import ModelRunner
from paddlemix_qwenvl.models.prompts import Media, joined


@pytest.fixture
def given(model, monkeypatch):
    """Where the pixels begin that the vision tower was given, and how many rows they are, at each call."""
    seen, encode = [], model.encode

    def spy(pixel_values, grid_thw):
        seen.append((pixel_values.data_ptr(), pixel_values.shape[0]))
        return encode(pixel_values, grid_thw)

    monkeypatch.setattr(model, "encode", spy)
    return seen


def asked(processor, pictures: int) -> dict:
    """What `generate` takes for so many pictures of 56 px."""
    picture = np.random.default_rng(0).integers(0, 256, (56, 56, 3), np.uint8)
    content = [*[{"type": "image", "image": picture}] * pictures, {"type": "text", "text": "the"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return processor(text=[text], images=[picture] * pictures, return_tensors="pd")


def test_generate_encodes_the_tensor_that_it_was_given(model, processor, given):
    inputs = asked(processor, 1)
    model.generate(**inputs, max_new_tokens=1)
    assert given == [(inputs["pixel_values"].data_ptr(), 16)]


def test_an_engine_encodes_the_array_that_it_was_given(model, given):
    pixels = np.ones((16, 1176), np.float32)
    media = Media(b"", {"pixel_values": pixels, "grid_thw": np.array([[1, 4, 4]])}, np.arange(4))
    ModelRunner(model).encode([media])
    assert given == [(pixels.ctypes.data, 16)]
    apart = [joined([media])["pixel_values"], *joined([media, media])["pixel_values"].reshape(2, 16, 1176)]
    assert all(np.array_equal(each, pixels) for each in apart) and apart[0] is pixels


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_dtypes_that_are_copied(model, processor, dtype):
    """Answers do not depend on how the numbers reach the encoder."""
    inputs = asked(processor, 1)
    inputs["pixel_values"] = inputs["pixel_values"].astype("bfloat16").astype("float32")
    wanted = model.generate(**inputs, max_new_tokens=4)[0]
    found = model.generate(**{**inputs, "pixel_values": inputs["pixel_values"].astype(dtype)}, max_new_tokens=4)[0]
    assert paddle.equal_all(found, wanted)


@pytest.mark.parametrize("many, given_back", [(4, 1), (5, 0)])
def test_a_large_picture_leaves_no_holes_behind(model, processor, monkeypatch, many, given_back):
    """Freed memory goes back to the system once its four features are there."""
    calls = []
    monkeypatch.setattr(encoder, "MANY_FEATURES", many)
    monkeypatch.setattr(encoder, "give_back_freed_memory", lambda: calls.append(many))
    model.generate(**asked(processor, 1), max_new_tokens=1)
    assert len(calls) == given_back
