"""Configurations: the Hub's flat form, the nested one, released sizes, and what no model can have."""

import json

import pytest

from paddlemix_qwenvl import Qwen2VLConfig
from paddlemix_qwenvl.commands.plan import config_of, plan_ranks
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.models.qwen2_vl import FAMILY

# As the 2B's config.json says it; its vision_config names nothing but what differs from the defaults.
TEXT = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "max_window_layers": 28,
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "vocab_size": 151936,
}
TOP = {"architectures": ["Qwen2VLForConditionalGeneration"], "model_type": "qwen2_vl", "torch_dtype": "bfloat16"}
TOWER = {"vision_config": {"hidden_size": 1536, "in_chans": 3, "model_type": "qwen2_vl", "spatial_patch_size": 14}}
FORMS = {"flat": {**TOP, **TEXT, **TOWER}, "nested": {**TOP, **TOWER, "text_config": TEXT}}


def load(folder, fields: dict) -> Qwen2VLConfig:
    (folder / "config.json").write_text(json.dumps(fields))
    return Qwen2VLConfig.from_pretrained(folder)


@pytest.mark.parametrize("form", FORMS)
def test_both_forms_are_the_released_2b(tmp_path, form):
    config = load(tmp_path, FORMS[form])
    for name, value in TEXT.items():
        assert getattr(config, name) == value, name
    vision = config.vision_config
    assert (vision.depth, vision.embed_dim, vision.num_heads, vision.intermediate_size) == (32, 1280, 16, 5120)
    assert config.vision_config == Qwen2VLConfig.of_size("2B").vision_config
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["vision_config"]["mlp_ratio"] == 4
    assert Qwen2VLConfig.from_pretrained(tmp_path).vision_config == vision


@pytest.mark.parametrize("given", [{}, dict.fromkeys(TEXT), {"text_config": {"hidden_size": None}}], ids=str)
def test_what_is_not_said_is_as_on_the_hub(given):
    expected = {"hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80, "num_attention_heads": 64}
    expected |= {"num_key_value_heads": 8, "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "vocab_size": 152064}
    expected |= {"sliding_window": 4096, "max_window_layers": 80, "architectures": TOP["architectures"]}
    config = Qwen2VLConfig(**given)
    assert {name: getattr(config, name) for name in expected} == expected
    assert (config.vision_config.hidden_size, config.vision_config.mlp_ratio) == (8192, 4)


@pytest.mark.parametrize(
    ("size", "parameters"), [("2B", 2_208_985_600), ("7B", 8_291_375_616), ("72B", 73_405_560_320)]
)
def test_released_sizes_have_the_hubs_numbers_of_parameters(size, parameters):
    assert FAMILY.known_size(f"Qwen/Qwen2-VL-{size}-Instruct") == size
    family, config = config_of(f"Qwen/Qwen2-VL-{size}-Instruct")
    (plan,) = plan_ranks(family.load("model"), config, "bfloat16", [1])
    assert plan.weight_bytes == 2 * parameters


def test_without_a_word_the_tower_ends_in_the_language_models_width():
    assert Qwen2VLConfig().vision_config.hidden_size == 8192
    assert Qwen2VLConfig(**TEXT).vision_config.hidden_size == 1536


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_config": {"hidden_size": 3584}}, "vision_config.hidden_size is 3584, expected hidden_size, 1536"),
        ({"vision_config": {"hidden_act": "silu"}}, "hidden_act is \"silu\", expected 'quick_gelu'"),
        ({"vision_config": {"mlp_ratio": 0}}, "mlp_ratio is 0, expected greater than"),
        ({"vision_config": {"num_heads": 15}}, "num_heads is 15, expected a divisor of embed_dim, 1280"),
        ({"rope_scaling": {"mrope_section": [16, 24, 25]}}, "half the head size, 64"),
        ({"model_type": "qwen2_5_vl"}, "qwen2_vl"),
        ({"quantization_config": {"quant_method": "awq", "bits": 3}}, "bits is 3"),
    ],
    ids=str,
)
def test_what_no_model_can_have(tmp_path, changes, message):
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, {**FORMS["flat"], **changes})
