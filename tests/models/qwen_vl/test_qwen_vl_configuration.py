"""Configurations: the Hub's values, what is saved, what is refused."""

import json

import pytest
from paddlenlp.transformers import AutoConfig, AutoModelForCausalLM, AutoProcessor, AutoTokenizer
from standin.folders import write

import paddlemix_qwenvl
from paddlemix_qwenvl import QWenVLConfig, registry
from paddlemix_qwenvl.errors import ConfigurationError

# config.json of Qwen/Qwen-VL-Chat, as far as the model is described by it.
HUB = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "kv_channels": 128,
    "layer_norm_epsilon": 1e-6,
    "max_position_embeddings": 8192,
    "no_bias": True,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "seq_length": 2048,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
}
HUB_VISUAL = {
    "heads": 16,
    "image_size": 448,
    "image_start_id": 151857,
    "layers": 48,
    "mlp_ratio": 4.9231,
    "output_dim": 4096,
    "patch_size": 14,
    "width": 1664,
}
GPTQ = {"bits": 4, "group_size": 128, "desc_act": False, "quant_method": "gptq"}


def test_defaults_are_the_hubs():
    config = QWenVLConfig()
    assert {name: getattr(config, name) for name in HUB} == HUB
    assert {name: config.visual[name] for name in HUB_VISUAL} == HUB_VISUAL
    assert config.patches == 32 and config.head_dim == 128 and config.eos_token_id == 151643


def test_saved_and_loaded(config, tmp_path):
    first = QWenVLConfig(**config)
    first.save_pretrained(str(tmp_path))
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "qwen" and saved["architectures"] == ["QWenLMHeadModel"]
    assert {name: saved[name] for name in HUB} == {name: config.get(name, HUB[name]) for name in HUB}
    again = AutoConfig.from_pretrained(str(tmp_path))
    assert type(again) is QWenVLConfig and again.to_dict() == first.to_dict()


@pytest.mark.parametrize(("flag", "dtype"), [("fp32", "float32"), ("fp16", "float16"), ("bf16", "bfloat16")])
def test_the_originals_way_to_name_a_dtype(flag, dtype):
    assert QWenVLConfig(**{flag: True}).dtype == dtype
    assert QWenVLConfig(**{flag: True}, torch_dtype="float32").dtype == "float32"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_channels": 64}, "32 heads of kv_channels 64 do not add up to hidden_size 4096"),
        ({"visual": {"output_dim": 128}}, "visual.output_dim is 128: it must be hidden_size, 4096"),
        ({"hidden_size": 64, "num_attention_heads": 2, "kv_channels": 32}, "a multiple of 128"),
        ({"visual": {"heads": 7}}, "visual.width 1664 cannot be split into 7 heads"),
        ({"visual": {"image_size": 450}}, "visual.image_size 450 is not a whole number of patches of 14"),
        ({"visual": {"n_queries": 250}}, "n_queries is 250"),
        ({"rotary_pct": 0.5}, "rotary_pct is 0.5"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is true"),
        ({"quantization_config": GPTQ}, "'gptq' with 4 bits, as in Qwen/Qwen-VL-Chat-Int4"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        QWenVLConfig(**changes)


def test_a_gptq_folder_is_refused_by_name(config, tmp_path):
    folder = write(tmp_path, {"config.json": {**config, "quantization_config": GPTQ}})
    for load in (AutoModelForCausalLM, paddlemix_qwenvl.QWenLMHeadModel):
        with pytest.raises(ConfigurationError, match="Qwen-VL-Chat-Int4: GPTQ weights cannot be loaded"):
            load.from_pretrained(folder)


def test_the_hosts_find_the_family(folder):
    found = {
        auto: type(auto.from_pretrained(str(folder))).__name__ for auto in (AutoConfig, AutoTokenizer, AutoProcessor)
    }
    assert list(found.values()) == ["QWenVLConfig", "QWenVLTokenizer", "QWenVLProcessor"]
    assert type(AutoModelForCausalLM.from_pretrained(str(folder))) is paddlemix_qwenvl.QWenLMHeadModel


@pytest.mark.parametrize(
    ("content", "ours"),
    [
        ({"model_type": "qwen", "visual": {"width": 1664}}, True),
        ({"model_type": "qwen", "architectures": ["QWenLMHeadModel"]}, False),
        ({"model_type": "qwen", "visual": None}, False),
        ({"tokenizer_class": "QWenTokenizer"}, False),
        ({"tokenizer_class": "QWenVLTokenizer"}, True),
    ],
)
def test_what_a_config_must_say(content, ours):
    assert registry.FAMILIES[1].claims(content) is ours


@pytest.mark.parametrize(
    "name",
    ["Qwen/Qwen-VL", "Qwen/Qwen-VL-Chat", "qwen-vl/qwen-vl-7b", "qwen-vl/qwen-vl-chat-7b", "qwen-vl/qwen-vl-7b-static"],
)
def test_names(name):
    assert name.startswith(registry.FAMILIES[1].names)
