"""What a config.json says of quantised weights: every family, and what is refused before any weight is there."""

import json

import hub_model
import numpy as np
import paddle
import pytest
import quantised_files as files
from reference.qwen_vl import qwen_vl_cases
from standin.folders import write

from paddlemix_qwenvl import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    QWenLMHeadModel,
)
from paddlemix_qwenvl.errors import CheckpointError, ConfigurationError
from paddlemix_qwenvl.layers.formats import Dense, Int4

SIZES = {"hidden_size": 64, "intermediate_size": 96, "rope_scaling": {"mrope_section": [2, 3, 3]}}
CONFIG = hub_model.config(**SIZES, vision_config={"out_hidden_size": 64})
AWQ, GPTQ, PACKED = (files.METHODS[name] for name in ("awq", "gptq", "packed"))


def group(**fields) -> dict:
    """compressed-tensors' settings with one group changed, and its weights for names that these have."""
    given = PACKED["config_groups"]["group_0"]
    weights = {**given["weights"], **{name: value for name, value in fields.items() if name in WEIGHTS}}
    others = {name: value for name, value in fields.items() if name not in WEIGHTS}
    return {**PACKED, "config_groups": {"group_0": {**given, "weights": weights, **others}}}


WEIGHTS = ("num_bits", "type", "symmetric", "strategy", "group_size")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**AWQ, "bits": 8}, "bits is 8, expected 4"),
        ({**AWQ, "version": "gemv"}, "version is \"gemv\", expected 'gemm'"),
        ({**AWQ, "zero_point": False}, "zero_point is false, expected true"),
        ({**AWQ, "group_size": 0}, "group_size is 0, expected a multiple of 32, or -1 for one group"),
        ({**AWQ, "group_size": 16}, "group_size is 16, expected a multiple of 32"),
        ({**AWQ, "group_size": "128"}, 'group_size is "128", expected a valid integer'),
        ({**AWQ, "modules_to_not_convert": "visual"}, 'modules_to_not_convert is "visual", expected a valid list'),
        ({**GPTQ, "bits": 3}, "bits is 3, expected 4 or 8"),
        ({**GPTQ, "bits": 8, "sym": False}, "sym is false, expected true, where numbers have 8 bits"),
        (group(num_bits=8, symmetric=False), "each symmetric where it has 8 bits"),
        ({**GPTQ, "checkpoint_format": "marlin"}, "checkpoint_format is \"marlin\", expected 'gptq' or 'gptq_v2'"),
        ({**GPTQ, "dynamic": {".*": {"group_size": 24}}}, "group_size is 24, expected a multiple of 32"),
        ({**PACKED, "config_groups": {}}, r"config_groups is \{\}, expected"),
        ({**PACKED, "kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme is .*, expected none"),
        ({**PACKED, "sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config is .*, expected none, or"),
        ({**PACKED, "format": "nvfp4-pack-quantized"}, 'config_groups.group_0 is "nvfp4-pack-quantized of'),
        (group(num_bits=3), "weights.num_bits is 3, expected 4 or 8"),
        (group(group_size=20), "group_size is 20, expected a multiple of 32"),
        (group(strategy="block"), 'weights.strategy is "block", expected'),
        (
            group(type="float"),
            'config_groups.group_0 is "pack-quantized of .*expected "pack-quantized" a channel or group',
        ),
        (group(targets="Linear"), 'targets is "Linear", expected a valid list'),
    ],
    ids=str,
)
def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path, settings, message):
    folder = write(tmp_path, {"config.json": {**CONFIG, "quantization_config": settings}})
    for load in (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration):
        with pytest.raises(
            ConfigurationError, match=rf"^{tmp_path}/config\.json: quantization_config: .*{message}"
        ) as said:
            load.from_pretrained(folder)
        assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("settings", "sizes", "message"),
    [
        (
            {**AWQ, "group_size": 128},
            {},
            r"layers\.0\.self_attn\.q_proj of \[64, 64\]: 64 inputs are no whole groups of 128",
        ),
        (GPTQ, {"intermediate_size": 100}, r"mlp\.gate_proj of \[100, 64\]: 100 outputs are no whole words of 8"),
        (PACKED, {"intermediate_size": 80}, r"mlp\.down_proj of \[64, 80\]: 80 inputs are no whole groups of 32"),
        ({**PACKED, "ignore": []}, {}, r"visual.*down_proj of \[32, 35\]: 35 inputs are no whole groups of 32"),
    ],
    ids=str,
)
def test_groups_that_do_not_divide(tmp_path, settings, sizes, message):
    """Before a weight is looked for: there is none."""
    folder = write(tmp_path, {"config.json": {**CONFIG, **sizes, "quantization_config": settings}})
    with pytest.raises(ConfigurationError, match=f"quantization_config of config.json does not fit .*{message}"):
        Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)


def test_awq_in_float32(tmp_path):
    folder = write(tmp_path, {"config.json": {**CONFIG, "quantization_config": AWQ}})
    for given in ({"dtype": "float32"}, {"torch_dtype": "torch.float32"}):
        with pytest.raises(ConfigurationError, match=r"dtype is 'float32', but what awq quantised .* leave it out"):
            Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, **given)


def test_missing_and_other_tensors(tmp_path):
    narrow, wide = files.converted(hub_model.tensors(CONFIG), lambda name, w: files.awq(w, 32), files.in_decoder)
    config = {**CONFIG, "quantization_config": AWQ}
    load = Qwen2_5_VLForConditionalGeneration.from_pretrained
    lost = {name: value for name, value in narrow.items() if not name.endswith("qzeros")}
    with pytest.raises(
        CheckpointError, match=r"does not fit the model: 14 tensors missing \(model\.layers\.0\..*qzeros"
    ):
        load(files.write(tmp_path / "lost", config, lost))
    with pytest.raises(CheckpointError, match=r"42 tensors missing .* 14 tensors unexpected"):
        load(files.write(tmp_path / "wide", config, wide))
    name = "model.layers.1.mlp.up_proj.qweight"
    with pytest.raises(CheckpointError, match=rf"tensor '{name}' has shape \[12, 64\], the model needs \[64, 12\]"):
        load(files.write(tmp_path / "turned", config, {**narrow, name: narrow[name].T}))
    with pytest.raises(
        CheckpointError, match=rf"tensor '{name}' is not I32, but quantization_config .* take all files"
    ):
        load(files.write(tmp_path / "other", config, {**narrow, name: narrow[name].astype(np.int64)}))


def test_float8_that_is_no_number(tmp_path):
    narrow, _ = files.converted(hub_model.tensors(CONFIG), lambda name, w: files.float8(w), files.in_decoder)
    narrow["model.layers.0.mlp.up_proj.weight"][3, 4] = 0xFF
    with pytest.raises(CheckpointError, match=r"mlp\.up_proj\.weight' is not finite"):
        Qwen2_5_VLForConditionalGeneration.from_pretrained(
            files.write(tmp_path, {**CONFIG, "quantization_config": files.METHODS["fp8"]}, narrow)
        )


def test_float8_of_which_the_config_says_nothing(tmp_path):
    narrow, _ = files.converted(
        hub_model.tensors(CONFIG), lambda name, w: files.float8(w), lambda name: "o_proj" in name
    )
    tensors = {name: value for name, value in narrow.items() if not name.endswith("scale")}
    with pytest.raises(CheckpointError, match=r"o_proj\.weight' is in float8, of which config\.json says nothing"):
        Qwen2_5_VLForConditionalGeneration.from_pretrained(files.write(tmp_path, CONFIG, tensors))


@pytest.mark.parametrize("groups", ["uneven", "negative"])
def test_groups_of_columns_that_cannot_be(tmp_path, groups):
    narrow, _ = files.converted(hub_model.tensors(CONFIG), lambda name, w: files.gptq(w, 32), files.in_decoder)
    narrow["model.layers.0.mlp.up_proj.g_idx"][0] = 1 if groups == "uneven" else -1
    folder = files.write(tmp_path, {**CONFIG, "quantization_config": {**GPTQ, "desc_act": True}}, narrow)
    with pytest.raises(CheckpointError, match=r"up_proj\.g_idx' is of other groups, .* asks for 2 of 32 columns each"):
        Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)


def test_awq_of_qwen2_vl(tmp_path):
    config = hub_model.qwen2_vl_config(**SIZES, vision_config={"hidden_size": 64})
    settings = {**AWQ, "modules_to_not_convert": ["visual"]}
    assert_as_dense(tmp_path, Qwen2VLForConditionalGeneration, config, hub_model.tensors(config), settings, files.awq)


def test_gptq_of_qwen_vl(tmp_path):
    """As Qwen-VL-Chat-Int4 has it: a bias of zeros beside each weight that has none, `c_attn` one tensor."""
    config = qwen_vl_cases.config(intermediate_size=192)

    def quantise(weight, size):
        tensors, value = files.gptq(weight, size)
        return tensors | {"bias": np.zeros(len(weight), np.float16)}, value

    model = assert_as_dense(tmp_path, QWenLMHeadModel, config, qwen_vl_cases.tensors(config), GPTQ, quantise)
    assert model.transformer.h[0].attn.c_proj.bias is None


def assert_as_dense(tmp_path, model_class, config: dict, tensors: dict, settings: dict, quantise):
    """A folder quantised in groups of 32 answers as the dense one that its numbers stand for."""
    narrow, wide = files.converted(tensors, lambda name, w: quantise(w, 32), files.in_decoder)
    narrow = {**narrow, **{name: value for name, value in tensors.items() if name.endswith("bias")}}
    model = model_class.from_pretrained(
        files.write(tmp_path / "narrow", {**config, "quantization_config": settings}, narrow)
    )
    dense = model_class.from_pretrained(files.write(tmp_path / "wide", config, wide))
    assert {type(format) for format in model.formats()} == {Dense, Int4}
    ids = paddle.to_tensor([[5, 77, 200, 31, 8, 9, 41]])
    found, wanted = model(ids).logits.numpy(), dense(ids).logits.numpy()
    assert np.abs(found - wanted).max() < 1e-3 * np.abs(wanted).max()
    answers = [each.generate(ids, max_new_tokens=6, min_new_tokens=6)[0].tolist() for each in (model, dense)]
    assert answers[0] == answers[1]
    return model


def test_a_file_beside_config_json(tmp_path):
    """AutoGPTQ's and AutoAWQ's own, which older folders have alone."""
    narrow, _ = files.converted(hub_model.tensors(CONFIG), lambda name, w: files.awq(w, 32), files.in_decoder)
    folder = files.write(tmp_path, CONFIG, narrow)
    said = {"zero_point": True, "q_group_size": 32, "w_bit": 4, "version": "GEMM"}
    (folder / "quant_config.json").write_text(json.dumps(said))
    assert Int4(32, has_zeros=True) in Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).formats()
