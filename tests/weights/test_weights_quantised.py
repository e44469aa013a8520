"""Checkpoints as AutoAWQ, GPTQ and compressed-tensors lay them out, against the dense models that their numbers stand for."""

import json

import hub_model
import numpy as np
import paddle
import pytest
import quantised_files as files
from gpu_stand_in import card

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from paddlemix_qwenvl.commands.model_doctor import examine_weights
from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.layers.formats import Dense, Int4, Int8
from paddlemix_qwenvl.layers.linear import Linear
from paddlemix_qwenvl.static.export import export
from paddlemix_qwenvl.static.loading import load_export
from paddlemix_qwenvl.weights.checkpoint import open_folder

MODEL = Qwen2_5_VLForConditionalGeneration
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
    "gptq, 8 bits": ({**files.METHODS["gptq"], "bits": 8}, lambda name, w: files.gptq(w, 32, bits=8)),
    "gptq, 8 bits, act-order": (
        {**files.METHODS["gptq"], "bits": 8, "desc_act": True},
        lambda name, w: files.gptq(w, 32, bits=8, act_order=ACT_ORDER[w.shape[1]]),
    ),
    "packed, 8 bits": (changed("packed", num_bits=8), lambda name, w: files.packed(w, 32, bits=8)),
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
    narrow, wide = folders(tmp_path, *CASES[case], files.CONFIG)
    assert_alike(MODEL.from_pretrained(narrow), MODEL.from_pretrained(wide))


MIXED = {
    "q_proj apart": ("awq", {"modules_to_not_convert": ["q_proj"]}, lambda name: "q_proj" not in name),
    "a layer apart": ("awq", {"modules_to_not_convert": ["visual", "layers.1"]}, lambda name: "layers.1." not in name),
    "v_proj by name": (
        "packed",
        {"ignore": ["lm_head", "re:.*visual.*", "model.layers.0.self_attn.v_proj"]},
        lambda name: name != "model.layers.0.self_attn.v_proj",
    ),
    "newer names": (
        "packed",
        {"ignore": ["lm_head", "re:model\\.visual\\..*", "re:model.language_model.layers.0.mlp.up_proj"]},
        lambda name: name != "model.layers.0.mlp.up_proj",
    ),
    "not by dynamic": ("gptq", {"dynamic": {"-:.*down_proj": {}}}, lambda name: "down_proj" not in name),
    "only some": (
        "gptq",
        {"modules_in_block_to_quantize": [["self_attn.k_proj", "self_attn.q_proj"], ["mlp.gate_proj"]]},
        lambda name: name.endswith(("k_proj", "q_proj", "gate_proj")),
    ),
}


@pytest.mark.parametrize("case", MIXED)
def test_what_is_not_converted_is_read_from_the_config(tmp_path, case):
    name, fields, wanted = MIXED[case]
    method, quantise = CASES[name]
    narrow, wide = folders(
        tmp_path,
        {**method, **fields},
        quantise,
        files.CONFIG,
        lambda module: files.in_decoder(module) and wanted(module),
    )
    assert_alike(MODEL.from_pretrained(narrow), MODEL.from_pretrained(wide))


def test_groups_of_other_sizes_and_orders_are_held_apart(tmp_path):
    method = {**files.METHODS["gptq"], "desc_act": True, "dynamic": {".*k_proj": {"group_size": 64}}}

    def quantise(name, weight):
        order = np.roll(ACT_ORDER[weight.shape[1]], 3 * name.endswith("v_proj"))
        return files.gptq(weight, 64 if name.endswith("k_proj") else 32, act_order=order)

    narrow, wide = folders(tmp_path, method, quantise, files.CONFIG)
    model = MODEL.from_pretrained(narrow)
    assert model.model.layers[0].self_attn.qkv_proj.format.heights == (64, 32, 32)
    assert model.model.layers[0].mlp.gate_up_proj.format == Int4(32, has_order=True)
    assert_alike(model, MODEL.from_pretrained(wide))


def test_every_linear_of_the_model(tmp_path):
    """The head and the vision tower, whose qkv is one tensor; the convolution is none."""
    config = {**files.CONFIG, "vision_config": {**files.CONFIG["vision_config"], "intermediate_size": 64}}
    method = {**files.METHODS["packed"], "ignore": []}

    def wanted(module):
        return not any(word in module for word in ("embed", "norm", "ln_q"))

    narrow, wide = folders(tmp_path, method, lambda name, w: files.packed(w, 32), config, wanted)
    model = MODEL.from_pretrained(narrow)
    assert {type(layer.format) for layer in model.sublayers() if isinstance(layer, Linear)} == {Dense, Int4}
    assert_alike(model, MODEL.from_pretrained(wide))


def test_a_bias_that_the_model_has_not(tmp_path):
    """AutoGPTQ writes one of zeros; another one counts."""
    method, quantise = CASES["gptq"]
    path, draws = "model.layers.1.mlp.down_proj.bias", np.random.default_rng(1)
    narrow, _ = files.converted(hub_model.tensors(files.CONFIG), quantise, files.in_decoder)
    narrow |= {f"model.layers.0.mlp.{name}_proj.bias": np.zeros(96, np.float16) for name in ("gate", "up")}
    narrow[path] = draws.standard_normal(64).astype(np.float16)
    files.write(tmp_path, {**files.CONFIG, "quantization_config": method}, narrow)
    model = MODEL.from_pretrained(tmp_path)
    assert model.model.layers[0].mlp.gate_up_proj.bias is None
    np.testing.assert_array_equal(model.model.layers[1].mlp.down_proj.bias.numpy(), narrow[path].astype(np.float32))
    assert model(paddle.to_tensor(IDS)).logits.shape == [1, 7, files.CONFIG["vocab_size"]]


@pytest.mark.parametrize(
    ("case", "dtype"),
    [("awq", "int4"), ("gptq, act-order", "int4"), ("gptq, 8 bits", "int8"), ("fp8", "fp8"), ("apart", "int4")],
)
def test_a_graph_of_a_quantised_checkpoint(tmp_path, case, dtype):
    method, quantise = CASES.get(case, CASES["awq"])
    method = {**method, "modules_to_not_convert": ["q_proj"]} if case == "apart" else method
    narrow, _ = folders(
        tmp_path,
        method,
        quantise,
        files.CONFIG,
        lambda name: files.in_decoder(name) and (case != "apart" or "q_proj" not in name),
    )
    hub_model.write_processor(narrow)
    model, processor = MODEL.from_pretrained(narrow), Qwen2_5_VLProcessor.from_pretrained(narrow)
    assert export(model, processor, tmp_path / "graphs", say=lambda line: None).dtype == dtype
    assistants = Assistant.load(str(narrow)), load_export(tmp_path / "graphs")
    answers = [each.ask("the in", max_new_tokens=5).text for each in assistants]
    assert answers[0] == answers[1] != ""


@pytest.mark.parametrize("case", ["awq", "gptq, act-order", "gptq, 8 bits", "int8", "fp8"])
def test_a_card_answers_as_the_cpu_does(tmp_path, case):
    """Activations in bfloat16 beside scales in float16."""
    narrow, wide = folders(tmp_path, *CASES[case], files.CONFIG)
    ids = paddle.to_tensor(IDS)
    with card((8, 0)):
        found = MODEL.from_pretrained(narrow, dtype="bfloat16")(ids).logits.numpy().ravel()
    wanted = MODEL.from_pretrained(wide)(ids).logits.numpy().ravel()
    assert found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted) > 0.995


def test_the_doctor_knows_what_belongs_to_a_quantised_checkpoint(tmp_path):
    narrow, _ = folders(tmp_path, *CASES["gptq, act-order"], files.CONFIG)
    model = MODEL.without_memory(MODEL.config_class.from_pretrained(narrow), "float32")
    findings = list(examine_weights(model, open_folder(narrow, prefixes=MODEL.weight_prefixes)))
    assert [finding.fatal for finding in findings] == [False] and "tensors, names and shapes" in findings[0].found


# ---- saving


@pytest.mark.parametrize("case", CASES)
def test_saved_and_loaded_again(tmp_path, case):
    """As compressed-tensors has it, the very same numbers."""
    narrow, _ = folders(tmp_path, *CASES[case], files.CONFIG)
    model = MODEL.from_pretrained(narrow)
    model.save_pretrained(tmp_path / "saved", max_shard_size=60_000)
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())["quantization_config"]
    assert saved["quant_method"] == "compressed-tensors" and saved["config_groups"]["group_0"]["targets"] == ["Linear"]
    again = MODEL.from_pretrained(tmp_path / "saved")
    assert again.formats() == model.formats()
    ids = paddle.to_tensor(IDS)
    np.testing.assert_array_equal(again(ids).logits.numpy(), model(ids).logits.numpy())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantization", ["int8", "int4", "fp8"])
def test_our_own_saved_and_loaded_again(tmp_path, quantization, dtype):
    files.write(tmp_path / "wide", files.CONFIG, hub_model.tensors(files.CONFIG))
    model = MODEL.from_pretrained(tmp_path / "wide", quantization=quantization, dtype=dtype)
    model.save_pretrained(tmp_path / "saved")
    again = MODEL.from_pretrained(tmp_path / "saved")
    assert again.formats() == model.formats() and again.config.dtype == dtype
    ids = paddle.to_tensor(IDS)
    np.testing.assert_array_equal(again(ids).logits.numpy(), model(ids).logits.numpy())
    with pytest.raises(ConfigurationError, match="quantised already, by compressed-tensors: leave it out"):
        MODEL.from_pretrained(tmp_path / "saved", quantization=quantization)


@pytest.mark.parametrize("how", ["awq", "fp8"])
def test_a_tied_head_is_named_among_what_is_not_quantised(tmp_path, how):
    config = {**files.CONFIG, "tie_word_embeddings": True}
    if how == "awq":
        folder, _ = folders(tmp_path, *CASES["awq"], config)
        model = MODEL.from_pretrained(folder)
    else:
        model = MODEL.from_pretrained(files.write(tmp_path, config, hub_model.tensors(config)), quantization="fp8")
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())["quantization_config"]
    assert "re:.*lm_head$" in saved["ignore"]
    again = MODEL.from_pretrained(tmp_path / "saved")
    assert again.lm_head.format == Dense() and again.formats() <= model.formats() | {Dense()}


def test_a_tied_int8_embedding_is_saved_in_the_models_dtype(tmp_path):
    """Other readers know no embedding of int8 that is a head, too; the values are the same."""
    config = {**files.CONFIG, "tie_word_embeddings": True}
    files.write(tmp_path / "wide", config, hub_model.tensors(config))
    model = MODEL.from_pretrained(tmp_path / "wide", quantization="int8")
    model.save_pretrained(tmp_path / "saved")
    again = MODEL.from_pretrained(tmp_path / "saved")
    rows = model.lm_head.weight.numpy() * model.lm_head.scale.numpy()[:, None]
    np.testing.assert_array_equal(again.model.embed_tokens.weight.numpy(), rows)
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())["quantization_config"]
    assert "re:.*lm_head$" in saved["ignore"] and not any("embed_tokens" in name for name in saved["ignore"])
    assert again.lm_head.format == Dense() and again.model.layers[0].mlp.down_proj.format == Int8()
    ids = paddle.to_tensor(IDS)
    found, wanted = again(ids).logits.numpy(), model(ids).logits.numpy()
    assert np.abs(found - wanted).max() < 1e-2 * np.abs(wanted).max()


def test_what_is_held_apart_is_saved_apart(tmp_path):
    name, fields, wanted = MIXED["q_proj apart"]
    method, quantise = CASES[name]
    narrow, _ = folders(
        tmp_path, {**method, **fields}, quantise, files.CONFIG, lambda m: files.in_decoder(m) and wanted(m)
    )
    model = MODEL.from_pretrained(narrow)
    model.save_pretrained(tmp_path / "saved")
    again, ids = MODEL.from_pretrained(tmp_path / "saved"), paddle.to_tensor(IDS)
    assert again.formats() == model.formats()
    np.testing.assert_array_equal(again(ids).logits.numpy(), model(ids).logits.numpy())
