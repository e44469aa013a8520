"""Adapters and quantised checkpoints: one line that says what they are and what to do."""

import hub_model
import numpy as np
import pytest
from safetensors.numpy import save_file
from standin.folders import write

from paddlemix_qwenvl import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, QWenVLConfig
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.models import unsupported

CONFIG = hub_model.config()
LORA = {"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen2.5-VL-7B-Instruct", "r": 8}
# As bitsandbytes, FP8 and others write it.
QUANTISED = {
    "nf4": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, '"bitsandbytes" to 4 bits'),
    "llm.int8": ({"load_in_8bit": True, "load_in_4bit": False}, '"bitsandbytes" to 8 bits'),
    "fp8": ({"quant_method": "fp8", "activation_scheme": "dynamic"}, '"fp8" to 8 bits'),
    "paddle": ({"weight_quantize_algo": "weight_only_int8"}, '"weight_only_int8" to 8 bits'),
    "new": ({"quant_method": "someone's", "odd": [1]}, '"someone\'s", which'),
    "nameless": ({"group_size": 32}, '"a method that it does not name", which'),
    "odd": ({"quant_method": ["awq"], "bits": {}, "config_groups": 7}, r"awq.*, which"),
}


def refused(call) -> str:
    with pytest.raises(ConfigurationError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_checkpoints(tmp_path, name):
    settings, what = QUANTISED[name]
    folder = write(tmp_path, {"config.json": {**CONFIG, "quantization_config": settings}})
    for load in (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration):
        with pytest.raises(
            ConfigurationError, match=rf"^{tmp_path}/config\.json: quantization_config says .* by .*{what}"
        ):
            load.from_pretrained(folder)
    assert 'load the unquantised model instead, with quantization="int8"' in refused(
        lambda: QWenVLConfig(quantization_config=settings)
    )


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"text_config": {"quantization_config": QUANTISED["nf4"][0]}}, "text_config.quantization_config"),
        ({"compression_config": {"config_groups": {}, "format": "x"}}, 'compression_config .*"compressed-tensors"'),
        ({"quantization": {"group_size": 64, "bits": 4}}, 'quantization says .* by "mlx" to 4 bits'),
    ],
)
def test_other_places_that_say_it(fields, place):
    with pytest.raises(ConfigurationError, match=place):
        Qwen2_5_VLConfig(**fields)


@pytest.mark.parametrize(("file", "bits"), [("quantize_config.json", "bits"), ("quant_config.json", "w_bit")])
def test_files_beside_config_json_that_say_it(tmp_path, file, bits):
    folder = write(tmp_path, {"config.json": CONFIG, file: {bits: 3, "zero_point": True}})
    with pytest.raises(ConfigurationError, match=r"config\.json: quantization_config: bits is 3, expected 4"):
        Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)


def test_what_says_that_nothing_is_quantised():
    for nothing in (None, {}, Qwen2_5_VLConfig().to_dict().get("quantization_config")):
        assert Qwen2_5_VLConfig(quantization_config=nothing).vocab_size == 152064


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"adapter_config.json": LORA}, r"\(LORA\) of Qwen/Qwen2\.5-VL-7B-Instruct"),
        ({"adapter_config.json": {"peft_type": "VERA"}}, r"\(VERA\) of a model that it does not name"),
        ({}, r"\(of unknown type\) of a model that it does not name"),
    ],
    ids=str,
)
def test_adapters(tmp_path, files, what):
    folder = write(tmp_path, files)
    save_file({"base_model.model.lora_A.weight": np.zeros((8, 2), np.float32)}, tmp_path / "adapter_model.safetensors")
    for load in (Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig):
        message = refused(lambda load=load: load.from_pretrained(folder))
        assert "merge it with PEFT" in message and "take adapter_config" not in message
        with pytest.raises(ConfigurationError, match=what):
            load.from_pretrained(folder)


def test_an_adapter_beside_the_weights_is_not_left_out_in_silence(hub_tensors, tmp_path):
    hub_model.write(tmp_path, CONFIG, hub_tensors)
    write(tmp_path, {"adapter_config.json": LORA})
    message = refused(lambda: Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path))
    assert "holds a PEFT adapter" in message and "take adapter_config.json out of the folder" in message


def test_an_adapters_file_with_wrong_values(tmp_path):
    folder = write(tmp_path, {"adapter_config.json": {**LORA, "base_model_name_or_path": 7}})
    assert refused(lambda: Qwen2_5_VLConfig.from_pretrained(folder)).startswith(
        f"{tmp_path}/adapter_config.json: base_model_name_or_path is 7"
    )


def test_arguments():
    unsupported.refuse_arguments({"anything": None}, "f", [])
    assert "f knows no argument 'nane' (3): 'name' comes nearest" in refused(
        lambda: unsupported.refuse_arguments({"nane": 3}, "f", ["name"])
    )
