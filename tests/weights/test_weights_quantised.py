"""Checkpoints as AutoAWQ, GPTQ and compressed-tensors lay them out, against the dense models that their numbers stand for."""

import hub_model
import numpy as np
import paddle
import pytest
import quantised_files as files

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration

MODEL = Qwen2_5_VLForConditionalGeneration
CONFIG = hub_model.config(
    hidden_size=64,
    intermediate_size=96,
    rope_scaling={"type": "mrope", "mrope_section": [2, 3, 3]},
    vision_config={"out_hidden_size": 64},
)
IDS = np.array([[5, 77, 200, 31, 8, 9, 41]])
ACT_ORDER = {width: np.random.default_rng(width).permutation(width) for width in (64, 96)}


def changed(name: str, **weights) -> dict:
    """The `quantization_config` of compressed-tensors with other fields of the weights."""
    method = files.METHODS[name]
    group = method["config_groups"]["group_0"]
    return {**method, "config_groups": {"group_0": {**group, "weights": {**group["weights"], **weights}}}}


CASES = {
    "awq": (files.METHODS["awq"], lambda name, w: files.awq(w, 32)),
    "awq, one group": ({**files.METHODS["awq"], "group_size": -1}, lambda name, w: files.awq(w, w.shape[1])),
    "gptq": (files.METHODS["gptq"], lambda name, w: files.gptq(w, 32)),
    "gptq, zeros": ({**files.METHODS["gptq"], "sym": False}, lambda name, w: files.gptq(w, 32, symmetric=False)),
    "gptq, version 2": (
        {**files.METHODS["gptq"], "sym": False, "checkpoint_format": "gptq_v2"},
        lambda name, w: files.gptq(w, 32, symmetric=False, version=2),
    ),
    "gptq, act-order": (
        {**files.METHODS["gptq"], "desc_act": True},
        lambda name, w: files.gptq(w, 32, act_order=ACT_ORDER[w.shape[1]]),
    ),
    "packed": (files.METHODS["packed"], lambda name, w: files.packed(w, 32)),
    "packed, zeros": (changed("packed", symmetric=False), lambda name, w: files.packed(w, 32, symmetric=False)),
    "packed, act-order": (
        changed("packed", actorder="group"),
        lambda name, w: files.packed(w, 32, act_order=ACT_ORDER[w.shape[1]]),
    ),
    "packed, channels": (
        changed("packed", strategy="channel", group_size=None),
        lambda name, w: files.packed(w, w.shape[1]),
    ),
    "int8": (files.METHODS["int8"], lambda name, w: files.int8(w)),
    "int8, tensors": (changed("int8", strategy="tensor"), lambda name, w: files.int8(w, "tensor")),
    "fp8": (files.METHODS["fp8"], lambda name, w: files.float8(w)),
    "fp8, tensors": (changed("fp8", strategy="tensor"), lambda name, w: files.float8(w, "tensor")),
}


def folders(tmp_path, method: dict, quantise, config: dict, wanted=files.in_decoder):
    """A quantised folder, and the dense one that it stands for."""
    narrow, wide = files.converted(hub_model.tensors(config), quantise, wanted)
    files.write(tmp_path / "narrow", {**config, "quantization_config": method}, narrow)
    files.write(tmp_path / "wide", config, wide)
    return tmp_path / "narrow", tmp_path / "wide"


def assert_alike(narrow, wide):
    """Logits to the rounding of float32, and the same tokens."""
    ids = paddle.to_tensor(IDS)
    found, wanted = narrow(ids).logits.numpy(), wide(ids).logits.numpy()
    assert np.abs(found - wanted).max() < 1e-3 * np.abs(wanted).max()
    tokens = [model.generate(ids, max_new_tokens=6, min_new_tokens=6)[0].tolist() for model in (narrow, wide)]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize("case", CASES)
def test_a_quantised_checkpoint_is_the_model_its_numbers_stand_for(tmp_path, case):
    narrow, wide = folders(tmp_path, *CASES[case], CONFIG)
    assert_alike(MODEL.from_pretrained(narrow), MODEL.from_pretrained(wide))
