"""config.json in every form the Hub has it, and what is written of it."""

import json

import hub_model
import pytest

from paddlemix_qwenvl import Qwen2_5_VLConfig
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.models.qwen2_5_vl import Qwen2_5_VLVisionConfig

# What Qwen/Qwen2.5-VL-{3B,7B,72B}-Instruct say in their config.json.
COMMON = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "vision_token_id": 151654,
    "image_token_id": 151655,
    "video_token_id": 151656,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 128000,
    "model_type": "qwen2_5_vl",
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
}
VISION = {
    "depth": 32,
    "hidden_act": "silu",
    "hidden_size": 1280,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
    "temporal_patch_size": 2,
}
NUMBERS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
SIZES = {
    "3B": ((2048, 11008, 36, 16, 2), 151936, 70, True, (2048, 3420)),
    "7B": ((3584, 18944, 28, 28, 4), 152064, 28, False, (3584, 3420)),
    "72B": ((8192, 29568, 80, 64, 8), 152064, 80, False, (8192, 3456)),
}


def hub_config(size: str) -> dict:
    """The Hub's config.json of a released size."""
    numbers, vocab_size, max_window_layers, tied, (out_hidden_size, intermediate_size) = SIZES[size]
    return {
        **COMMON,
        **dict(zip(NUMBERS, numbers, strict=True)),
        "vocab_size": vocab_size,
        "max_window_layers": max_window_layers,
        "tie_word_embeddings": tied,
        "vision_config": {**VISION, "out_hidden_size": out_hidden_size, "intermediate_size": intermediate_size},
    }


def load(folder, fields: dict) -> Qwen2_5_VLConfig:
    return Qwen2_5_VLConfig.from_pretrained(hub_model.write_config(folder, fields))


def assert_holds(config: Qwen2_5_VLConfig, fields: dict) -> None:
    """Every field of a Hub file, where our config has it."""
    written = config.to_dict()
    for name, value in fields.items():
        if name == "vision_config":
            assert {key: written[name][key] for key in value} == value
        else:
            assert written[name] == value, name


def assert_same(one: Qwen2_5_VLConfig, other: Qwen2_5_VLConfig) -> None:
    assert one.to_dict() == other.to_dict()


@pytest.mark.parametrize("size", SIZES)
def test_of_size_is_what_the_hub_says(tmp_path, size):
    assert_holds(Qwen2_5_VLConfig.of_size(size), hub_config(size))
    in_file = {**hub_config(size), "vision_config": {**hub_config(size)["vision_config"], "in_chans": 3}}
    assert_same(load(tmp_path, in_file), Qwen2_5_VLConfig.of_size(size))


def test_of_size_can_be_changed_and_knows_its_sizes():
    config = Qwen2_5_VLConfig.of_size("3B", num_hidden_layers=4)
    assert (config.num_hidden_layers, config.hidden_size) == (4, 2048)
    with pytest.raises(ConfigurationError, match=r"size '8B' is unknown: choose one of 3B, 7B, 72B"):
        Qwen2_5_VLConfig.of_size("8B")


def test_defaults_are_the_7b():
    given = {"tie_word_embeddings", "torch_dtype", "bos_token_id", "eos_token_id"}
    assert_holds(Qwen2_5_VLConfig(), {k: v for k, v in hub_config("7B").items() if k not in given})
    assert Qwen2_5_VLConfig().tie_word_embeddings is False


@pytest.mark.parametrize("size", SIZES)
def test_derived_sizes(size):
    config = Qwen2_5_VLConfig.of_size(size)
    vision = config.vision_config
    assert config.head_dim == 128
    assert (vision.head_dim, vision.patch_dim, vision.window_tokens) == (80, 1176, 4)


def nested(fields: dict) -> dict:
    """The form that transformers 4.52 and later write: the language model's fields in `text_config`."""
    top = {"architectures", "model_type", "vision_config", "tie_word_embeddings", "torch_dtype"}
    top |= {name for name in fields if name.startswith(("vision_", "image_", "video_"))}
    text = {name: value for name, value in fields.items() if name not in top}
    text |= {"model_type": "qwen2_5_vl_text", "layer_types": ["full_attention"] * fields["num_hidden_layers"]}
    text["rope_scaling"] = {**fields["rope_scaling"], "type": "default", "rope_type": "default"}
    return {**{name: value for name, value in fields.items() if name in top}, "text_config": text}


@pytest.mark.parametrize("size", SIZES)
def test_flat_and_nested_form_are_one(tmp_path, size):
    flat, inner = load(tmp_path / "flat", hub_config(size)), load(tmp_path / "nested", nested(hub_config(size)))
    assert_holds(inner, hub_config(size))
    for name in [*hub_config(size), "vision_config", "head_dim"]:
        assert flat.to_dict().get(name) == inner.to_dict().get(name), name
    assert inner.model_type == "qwen2_5_vl" and not hasattr(inner, "text_config")


def test_the_nested_form_is_taken_by_the_constructor_too():
    fields = nested(hub_config("3B"))
    config = Qwen2_5_VLConfig(**fields)
    assert_holds(config, hub_config("3B"))


def test_top_level_goes_before_text_config(tmp_path):
    fields = nested(hub_config("3B"))
    fields["text_config"] |= {"tie_word_embeddings": False, "rope_scaling": {"mrope_section": [62, 1, 1]}}
    config = load(tmp_path, {**fields, "rope_scaling": {"mrope_section": [32, 16, 16]}})
    assert config.tie_word_embeddings is True and config.rope_scaling["mrope_section"] == [32, 16, 16]


def test_an_empty_text_config_is_none(tmp_path):
    assert load(tmp_path, {**hub_config("3B"), "text_config": None}).hidden_size == 2048


@pytest.mark.parametrize(
    "given",
    [
        {"type": "mrope", "mrope_section": [16, 24, 24]},
        {"rope_type": "mrope", "mrope_section": [16, 24, 24]},
        {"type": "default", "mrope_section": [16, 24, 24]},
        {"rope_type": "default", "type": "default", "mrope_section": [16, 24, 24]},
        {"mrope_section": (16, 24, 24)},
        {"type": "mrope"},
        {},
        None,
    ],
    ids=str,
)
def test_rope_scaling_under_all_its_names(tmp_path, given):
    config = load(tmp_path, {**hub_config("7B"), "rope_scaling": given})
    assert config.rope_scaling == {"type": "mrope", "mrope_section": [16, 24, 24]}


@pytest.mark.parametrize("inside", [False, True])
def test_rope_parameters_of_transformers_5(tmp_path, inside):
    """The base stands beside the sections there, flat or in `text_config`."""
    fields = {name: value for name, value in hub_config("3B").items() if name not in ("rope_scaling", "rope_theta")}
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "mrope_section": [20, 22, 22]}}
    config = load(tmp_path, {**fields, "text_config": rope} if inside else {**fields, **rope})
    assert config.rope_theta == 5e5
    assert config.rope_scaling == {"type": "mrope", "mrope_section": [20, 22, 22]}


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl", "llama"])
def test_another_kind_of_model(tmp_path, kind):
    with pytest.raises(
        ConfigurationError, match=rf"model_type '{kind}', this class loads 'qwen2_5_vl': let an Auto class choose"
    ):
        load(tmp_path, {**hub_config("3B"), "model_type": kind})


@pytest.mark.parametrize("section", [[16, 24], [16, 24, 25], [8, 12, 12], [16, 24, 12, 12], [-8, 36, 36]], ids=str)
def test_sections_have_to_fill_half_a_head(section):
    with pytest.raises(ConfigurationError, match=r"mrope_section .* three .* half the head size, 64"):
        Qwen2_5_VLConfig(rope_scaling={"type": "mrope", "mrope_section": section})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 30}, r"hidden_size 3584 cannot be split into 30 heads"),
        ({"num_attention_heads": 512, "num_key_value_heads": 4}, r"hidden_size 3584 .* 512 heads of even size"),
        ({"num_key_value_heads": 5}, r"28 query heads cannot share 5 key-value heads"),
        ({"hidden_act": "gelu"}, r"hidden_act 'gelu' is unknown"),
        ({"use_sliding_window": True}, r"use_sliding_window is true"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, r"rope_scaling type 'yarn' is unknown"),
        ({"vision_config": {"out_hidden_size": 2048}}, r"out_hidden_size is 2048 but hidden_size is 3584"),
        ({"vision_config": {"num_heads": 15}}, r"vision hidden_size 1280 over 15 heads"),
        ({"vision_config": {"hidden_size": 96, "num_heads": 16}}, r"multiple of 4"),
        ({"vision_config": {"hidden_act": "quick_gelu"}}, r"vision hidden_act 'quick_gelu' is unknown"),
    ],
    ids=str,
)
def test_what_no_model_can_have(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        Qwen2_5_VLConfig(**changes)


@pytest.mark.parametrize("size", SIZES)
def test_saved_and_loaded_again(tmp_path, size):
    first = Qwen2_5_VLConfig.of_size(size, vision_config={**hub_config(size)["vision_config"], "window_size": 56})
    first.save_pretrained(tmp_path)
    assert_same(Qwen2_5_VLConfig.from_pretrained(tmp_path), first)
    assert Qwen2_5_VLConfig.from_pretrained(tmp_path).vision_config.window_size == 56


@pytest.mark.parametrize("size", SIZES)
def test_the_file_says_all_that_other_readers_have_to_know(tmp_path, size):
    """transformers fills what is left out with its own defaults, which are no released model's."""
    Qwen2_5_VLConfig.of_size(size).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    for name, value in hub_config(size).items():
        if name == "vision_config":
            assert value.items() <= written[name].items()
        elif name != "use_cache":
            assert written[name] == value, name
    assert "text_config" not in written


def test_a_field_can_be_changed_on_loading(tmp_path):
    folder = hub_model.write_config(tmp_path, hub_config("3B"))
    config = Qwen2_5_VLConfig.from_pretrained(folder, num_hidden_layers=2, dtype="float32")
    assert (config.num_hidden_layers, config.dtype) == (2, "float32")


def test_changed_fields_are_checked_and_add_to_the_files(tmp_path):
    folder = hub_model.write_config(tmp_path, hub_config("3B"))
    config = Qwen2_5_VLConfig.from_pretrained(folder, vision_config={"window_size": 56})
    vision = {**hub_config("3B")["vision_config"], "window_size": 56}
    assert {name: getattr(config.vision_config, name) for name in vision} == vision
    with pytest.raises(ConfigurationError, match=r"2048 cannot be split into 5 heads"):
        Qwen2_5_VLConfig.from_pretrained(folder, num_attention_heads=5)
    with pytest.raises(ConfigurationError, match=r"mrope_section"):
        Qwen2_5_VLConfig.from_pretrained(folder, rope_scaling={"mrope_section": [1, 2, 3]})


def test_vision_config_takes_both_names_of_its_channels():
    assert Qwen2_5_VLVisionConfig(in_chans=1).in_channels == Qwen2_5_VLVisionConfig(in_channels=1).in_channels == 1


def test_lists_are_not_shared_between_configs():
    one, other = Qwen2_5_VLVisionConfig(), Qwen2_5_VLVisionConfig()
    one.fullatt_block_indexes.append(3)
    assert other.fullatt_block_indexes == [7, 15, 23, 31]
