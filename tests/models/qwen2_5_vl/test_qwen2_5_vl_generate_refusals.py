"""What `generate` cannot make an answer of, and what it can."""

import numpy as np
import paddle
import pytest
from mixed_batch import ONE_IMAGE, TEXT, batch

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.errors import GenerationError, PromptError

GREEDY = {"do_sample": False, "repetition_penalty": 1.0}


@pytest.mark.parametrize("kind", ["lists", "numpy"])
@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "pixel_values", "image_grid_thw"])
def test_what_the_processor_was_not_asked_to_make_tensors(model, name, kind):
    inputs = batch([ONE_IMAGE])
    inputs[name] = inputs[name].tolist() if kind == "lists" else inputs[name].numpy()
    what = "list" if kind == "lists" else r"numpy\.ndarray"
    with pytest.raises(PromptError, match=rf'{name} is a {what}, not a tensor .*return_tensors="pd"'):
        model.generate(**inputs, max_new_tokens=1)
    if name == "input_ids":
        with pytest.raises(PromptError, match=r'return_tensors="pd"'):
            model(**inputs)


def test_weights_that_are_none_give_no_answer(hub_folder):
    spoilt = Qwen2_5_VLForConditionalGeneration.from_pretrained(hub_folder, dtype="bfloat16")
    weight = spoilt.model.layers[1].mlp.down_proj.weight
    weight.set_value(paddle.full(weight.shape, float("nan"), "float32").astype("bfloat16"))
    for settings in (GREEDY, {"num_beams": 2, "do_sample": False}, {"do_sample": True}):
        with pytest.raises(GenerationError, match=r'NaN or infinity in bfloat16.*dtype="float32"'):
            spoilt.generate(**batch([ONE_IMAGE, TEXT]), max_new_tokens=3, **settings)


def test_tokens_that_a_hook_rules_out(model):
    """A user's own mask on the logits is no overflow."""
    mask = np.zeros(model.config.vocab_size, np.float32)
    mask[::2] = -np.inf
    hook = model.lm_head.register_forward_post_hook(lambda layer, inputs, logits: logits + paddle.to_tensor(mask))
    try:
        ids, _ = model.generate(**batch([TEXT]), max_new_tokens=40, eos_token_id=[], **GREEDY)
    finally:
        hook.remove()
    assert (ids.numpy() % 2 == 1).all()
