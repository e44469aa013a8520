"""Configurations: the Hub's values, what is saved, what is refused."""

import json

import pytest
from standin.folders import write

from paddlemix_qwenvl import QWenLMHeadModel, QWenVLConfig
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.models.qwen_vl import FAMILY

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
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True}


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
    again = QWenVLConfig.from_pretrained(str(tmp_path))
    assert type(again) is QWenVLConfig and again.to_dict() == first.to_dict()


@pytest.mark.parametrize(("flag", "dtype"), [("fp32", "float32"), ("fp16", "float16"), ("bf16", "bfloat16")])
def test_the_originals_way_to_name_a_dtype(flag, dtype):
    assert QWenVLConfig(**{flag: True}).dtype == dtype
    assert QWenVLConfig(**{flag: True}, torch_dtype="float32").dtype == "float32"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_channels": 64}, "kv_channels is 64, expected .*hidden_size / num_attention_heads, 4096 / 32"),
        ({"visual": {"output_dim": 128}}, "output_dim is 128, expected hidden_size, 4096"),
        ({"hidden_size": 64, "num_attention_heads": 2, "kv_channels": 32}, "a multiple of 128"),
        ({"visual": {"heads": 7}}, "heads is 7, expected a divisor of width, 1664"),
        ({"visual": {"image_size": 450}}, "image_size is 450, expected up to 64 whole patches of patch_size, 14"),
        ({"visual": {"image_size": 448 * 3}}, "image_size is 1344, expected up to 64 whole patches"),
        ({"visual": {"n_queries": 250}}, "n_queries is 250, expected a square number"),
        (
            {"visual": {"image_start_id": 151934}},
            "visual.image_start_id is 151934, expected three ids from it on below",
        ),
        ({"visual": {"layers": 10**6}}, "visual.layers is 1000000"),
        ({"visual": 7}, "visual is 7, expected an object"),
        ({"rotary_pct": 0.5}, "rotary_pct is 0.5"),
        ({"rotary_emb_base": "10000"}, 'rotary_emb_base is "10000"'),
        ({"intermediate_size": 191}, "intermediate_size is 191, expected a multiple of 2"),
        ({"seq_length": 1}, "seq_length is 1"),
        ({"scale_attn_weights": False}, "scale_attn_weights is false"),
        ({"bf16": "true"}, 'bf16 is "true", expected a valid boolean'),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is true, expected false"),
        ({"eos_token_id": 151936}, "eos_token_id is 151936, expected ids below vocab_size"),
        ({"quantization_config": NF4}, 'quantization_config says .* by "bitsandbytes" to 4 bits.*quantization="int8"'),
    ],
    ids=str,
)
def test_what_is_refused(changes, message):
    with pytest.raises(ConfigurationError, match=f"the arguments of QWenVLConfig: .*{message}"):
        QWenVLConfig(**changes)


def test_an_nf4_folder_is_refused_by_name(config, tmp_path):
    folder = write(tmp_path, {"config.json": {**config, "quantization_config": NF4}})
    with pytest.raises(
        ConfigurationError, match=rf'{tmp_path}/config\.json: quantization_config .* "bitsandbytes" to 4 bits'
    ):
        QWenLMHeadModel.from_pretrained(folder)


def test_null_is_the_default_and_what_nobody_knows_is_kept(config, tmp_path):
    visual = {**config["visual"], "heads": None, "made_by": "me"}
    folder = write(tmp_path, {"config.json": {**config, "seq_length": None, "visual": visual, "onnx_safe": None}})
    loaded = QWenVLConfig.from_pretrained(folder)
    assert (loaded.seq_length, loaded.visual["heads"], loaded.visual["made_by"]) == (2048, 16, "me")


def test_a_changed_visual_adds_to_the_files(config, tmp_path):
    folder = write(tmp_path, {"config.json": config})
    assert QWenVLConfig.from_pretrained(folder, visual={"image_size": 224}).visual == {
        **QWenVLConfig(**config).visual,
        "image_size": 224,
    }


def test_a_change_leaves_the_dtype_alone(config, tmp_path):
    folder = write(tmp_path, {"config.json": {**config, "fp32": False, "fp16": True}})
    changed = QWenVLConfig.from_pretrained(folder, seq_length=100, hidden_size=None)
    assert (changed.dtype, changed.seq_length, changed.hidden_size) == ("float16", 100, config["hidden_size"])
    assert QWenVLConfig.from_pretrained(folder, bf16=True).dtype == "bfloat16"


def test_text_alone_is_not_this_family(config, tmp_path):
    folder = write(tmp_path, {"config.json": {**config, "visual": None}})
    with pytest.raises(ConfigurationError, match=r"config\.json: visual is null, expected the vision tower's fields"):
        QWenVLConfig.from_pretrained(folder)


@pytest.mark.parametrize(
    ("content", "ours"),
    [
        ({"model_type": "qwen", "visual": {"width": 1664}}, True),
        ({"model_type": "qwen", "architectures": ["QWenLMHeadModel"]}, False),
        ({"model_type": "qwen", "visual": None}, False),
        ({"model_type": "qwen", "visual": []}, True),
        ({"model_type": 7, "architectures": ["QWenLMHeadModel"], "visual": {}}, True),
        ({"tokenizer_class": "QWenTokenizer"}, False),
        ({"tokenizer_class": "QWenVLTokenizer"}, True),
    ],
)
def test_what_a_config_must_say(content, ours):
    assert FAMILY.claims(content) is ours


@pytest.mark.parametrize(
    "name",
    ["Qwen/Qwen-VL", "Qwen/Qwen-VL-Chat", "qwen-vl/qwen-vl-7b", "qwen-vl/qwen-vl-chat-7b", "qwen-vl/qwen-vl-7b-static"],
)
def test_names(name):
    assert name.startswith(FAMILY.hub_names)
