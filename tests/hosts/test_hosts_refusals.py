"""PaddleNLP's Auto classes on Qwen-VL, and on what is no model of this package: the refusals of our own classes."""

import hub_model
import pytest
import qwen_vl_model
from paddlenlp.transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForConditionalGeneration,
    AutoProcessor,
    AutoTokenizer,
)
from reference.qwen_vl import qwen_vl_cases
from standin.folders import write

import paddlemix_qwenvl
from paddlemix_qwenvl.errors import ConfigurationError

QWEN_VL = qwen_vl_cases.CONFIGS["wide"]
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True}
LORA = {"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen2.5-VL-7B-Instruct", "r": 8}


def test_qwen_vl_is_found(tmp_path):
    folder = qwen_vl_model.write(tmp_path, QWEN_VL, qwen_vl_cases.tensors(QWEN_VL))
    found = [type(auto.from_pretrained(str(folder))).__name__ for auto in (AutoConfig, AutoTokenizer, AutoProcessor)]
    assert found == ["QWenVLConfig", "QWenVLTokenizer", "QWenVLProcessor"]
    assert type(AutoModelForCausalLM.from_pretrained(str(folder))) is paddlemix_qwenvl.QWenLMHeadModel


@pytest.mark.parametrize("changes", [{"visual": []}, {"VISUAL": QWEN_VL["visual"]}, {"model_type": None}], ids=str)
def test_a_damaged_visual_is_named_where_the_host_would_fail_on_it(tmp_path, changes):
    rest = {name: value for name, value in QWEN_VL.items() if name != "visual"}
    folder = write(tmp_path, {"config.json": {**rest, **changes}})
    with pytest.raises(ConfigurationError, match=rf"{tmp_path}/config\.json: visual is (\[\]|null), expected"):
        AutoModelForConditionalGeneration.from_pretrained(folder)


@pytest.mark.parametrize("config", [hub_model.config(), QWEN_VL], ids=["qwen2_5_vl", "qwen_vl"])
@pytest.mark.parametrize("auto", [AutoConfig, AutoModelForConditionalGeneration, AutoModelForCausalLM])
def test_quantised_checkpoints(tmp_path, config, auto):
    folder = write(tmp_path, {"config.json": {**config, "quantization_config": NF4}})
    with pytest.raises(
        ConfigurationError, match=rf'^{tmp_path}/config\.json: quantization_config says .* "bitsandbytes" to 4 bits'
    ):
        auto.from_pretrained(folder)


def test_a_file_beside_config_json_that_says_it(tmp_path):
    folder = write(tmp_path, {"config.json": hub_model.config(), "quant_config.json": {"w_bit": 3}})
    with pytest.raises(ConfigurationError, match=r"config\.json: quantization_config: bits is 3, expected 4"):
        AutoModelForConditionalGeneration.from_pretrained(folder)


@pytest.mark.parametrize("beside", [{}, {"config.json": hub_model.config()}], ids=["alone", "beside a model"])
def test_adapters(tmp_path, beside):
    folder = write(tmp_path, {"adapter_config.json": LORA, **beside})
    with pytest.raises(ConfigurationError, match=r"holds a PEFT adapter \(LORA\) of Qwen/Qwen2\.5-VL-7B-Instruct"):
        AutoModelForConditionalGeneration.from_pretrained(folder)
