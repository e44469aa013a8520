"""config.json in every form the Hub has it, and what is written of it."""

import json

import hub_model
import pytest
from released_configs import SIZES, assert_holds, assert_same, hub_config, load, nested

from paddlemix_qwenvl import Qwen2_5_VLConfig
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.models.qwen2_5_vl import FAMILY
from paddlemix_qwenvl.models.qwen2_5_vl.config import Qwen2_5_VLVisionConfig


@pytest.mark.parametrize("size", SIZES)
def test_of_size_is_what_the_hub_says(tmp_path, size):
    assert_holds(Qwen2_5_VLConfig.of_size(size), hub_config(size))
    in_file = {**hub_config(size), "vision_config": {**hub_config(size)["vision_config"], "in_chans": 3}}
    assert_same(load(tmp_path, in_file), Qwen2_5_VLConfig.of_size(size))


def test_of_size_can_be_changed_and_knows_its_sizes():
    config = Qwen2_5_VLConfig.of_size("3B", num_hidden_layers=4)
    assert (config.num_hidden_layers, config.hidden_size) == (4, 2048)
    with pytest.raises(ConfigurationError, match=r"size '8B' is unknown: choose one of 3B, 7B, 32B, 72B"):
        Qwen2_5_VLConfig.of_size("8B")


def test_names_of_released_sizes():
    names = {
        "32B": "32B",
        "Qwen/Qwen2.5-VL-32B-Instruct": "32B",
        "Qwen/Qwen2.5-VL-7B": "7B",
        "Qwen/Qwen2.5-VL-8B": None,
    }
    assert {name: FAMILY.known_size(name) for name in names} == names


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


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("qwen2_audio", r"\(Qwen2-Audio\), which this package does not have: it loads Qwen2\.5-VL .*Qwen-VL"),
        ("qwen3_vl", r"\(Qwen3-VL\), which this package does not have"),
        ("qwen2_5_omni", r"\(Qwen2\.5-Omni\), which"),
        ("llama", "which this package does not have"),
        ("qwen", r"\(Qwen-VL\), this class loads 'qwen2_5_vl' \(Qwen2\.5-VL\): let an Auto class"),
        (7, "is 7, expected 'qwen2_5_vl'"),
    ],
)
def test_another_kind_of_model(tmp_path, kind, what):
    with pytest.raises(ConfigurationError, match=rf"{tmp_path}/config\.json.*model_type.*{what}"):
        load(tmp_path, {**hub_config("3B"), "model_type": kind})


def test_a_file_that_says_nothing_of_its_kind(tmp_path):
    for fields in ({}, {"model_type": None}, {"vision_config": {"depth": 2}}):
        with pytest.raises(ConfigurationError, match=r"config\.json: model_type is null, expected 'qwen2_5_vl'"):
            load(tmp_path, fields)


@pytest.mark.parametrize("section", [[16, 24, 25], [8, 12, 12], [0, 0, 0]], ids=str)
def test_sections_have_to_fill_half_a_head(section):
    with pytest.raises(ConfigurationError, match=r"mrope_section .* three .* half the head size, 64"):
        Qwen2_5_VLConfig(rope_scaling={"type": "mrope", "mrope_section": section})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 30}, "num_attention_heads is 30, expected hidden_size 3584 over heads of even size"),
        (
            {"num_attention_heads": 512, "num_key_value_heads": 4},
            "num_attention_heads is 512, expected hidden_size 3584",
        ),
        ({"num_key_value_heads": 5}, "num_key_value_heads is 5, expected a number that 28 query heads share evenly"),
        ({"head_dim": 64}, "head_dim is 64, expected hidden_size / num_attention_heads, 128"),
        ({"hidden_act": "gelu"}, "hidden_act is \"gelu\", expected 'silu'"),
        ({"use_sliding_window": True}, "use_sliding_window is true, expected false"),
        ({"layer_types": ["sliding_attention"]}, 'layer_types.0. is "sliding_attention"'),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0}},
            "rope_scaling.type is \"yarn\", expected 'mrope' or 'default'",
        ),
        (
            {"rope_parameters": {"rope_theta": 0.5}},
            "rope_parameters.rope_theta is 0.5, expected greater than or equal to 1",
        ),
        ({"rope_scaling": {"mrope_section": [16, 24]}}, r"mrope_section is \[16, 24\], expected at least 3 items"),
        ({"rope_scaling": {"mrope_section": [16, 24, 12, 12]}}, "mrope_section .* expected at most 3 items"),
        ({"rope_scaling": {"mrope_section": [-8, 36, 36]}}, r"mrope_section\[0\] is -8"),
        ({"rope_theta": 0}, "rope_theta is 0, expected"),
        ({"rms_norm_eps": -1e-6}, "rms_norm_eps is -1e-06, expected greater than 0"),
        ({"vocab_size": 10**9}, "vocab_size is 1000000000, expected less than or equal to"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, expected less than or equal to 1000"),
        ({"num_hidden_layers": "28"}, 'num_hidden_layers is "28", expected a valid integer'),
        ({"tie_word_embeddings": "true"}, 'tie_word_embeddings is "true", expected a valid boolean'),
        (
            {"torch_dtype": "float8_e4m3fn"},
            "torch_dtype is \"float8_e4m3fn\", expected 'float32', 'float16' or 'bfloat16'",
        ),
        ({"architectures": 7}, "architectures is 7"),
        ({"id2label": [1]}, r"id2label is \[1\], expected an object"),
        ({"num_labels": 10**9}, "num_labels is 1000000000"),
        ({"num_classes": []}, r"num_classes is \[\]"),
        ({"problem_type": "none"}, "problem_type"),
        ({"sequence_parallel": True}, "sequence_parallel is true"),
        ({"image_token_id": 151656}, "image_token_id is 151656, expected another token than video_token_id"),
        ({"image_token_id": 152064}, "image_token_id is 152064, expected ids below vocab_size, 152064"),
        ({"eos_token_id": [1, 152064]}, r"eos_token_id is \[1, 152064\], expected ids below vocab_size"),
        ({"pad_token_id": -1}, "pad_token_id is -1"),
        ({"text_config": {"vocab_size": -1}}, "text_config.vocab_size is -1"),
        ({"text_config": [1]}, r"text_config is \[1\], expected an object"),
        ({"vision_config": "x"}, 'vision_config is "x", expected an object'),
        ({"vision_config": {"depth": 0}}, "vision_config.depth is 0"),
        ({"vision_config": {"out_hidden_size": 2048}}, "out_hidden_size is 2048, expected hidden_size, 3584"),
        ({"vision_config": {"num_heads": 15}}, "num_heads is 15, expected a divisor of hidden_size, 1280"),
        ({"vision_config": {"hidden_size": 96, "num_heads": 16}}, "multiple of 4"),
        (
            {"vision_config": {"hidden_act": "quick_gelu"}},
            "vision_config.hidden_act is \"quick_gelu\", expected 'silu'",
        ),
        ({"vision_config": {"window_size": 27}}, "window_size is 27, expected at least .* 28"),
        ({"vision_config": {"rope_parameters": {"rope_theta": 5.0}}}, "rope_parameters.rope_theta is 5.0"),
        ({"vision_parallel": "pipe"}, "vision_parallel is \"pipe\", expected 'tensor' or 'data'"),
    ],
    ids=str,
)
def test_what_no_model_can_have(changes, message):
    with pytest.raises(ConfigurationError, match=f"the arguments of Qwen2_5_VLConfig: .*{message}"):
        Qwen2_5_VLConfig(**changes)


def test_the_message_names_the_file_or_what_was_changed_of_it(tmp_path):
    folder = hub_model.write_config(tmp_path, {**hub_config("3B"), "vocab_size": "many"})
    with pytest.raises(ConfigurationError, match=rf'^{tmp_path}/config\.json: vocab_size is "many", expected a valid'):
        Qwen2_5_VLConfig.from_pretrained(folder)
    folder = hub_model.write_config(tmp_path, hub_config("3B"))
    with pytest.raises(
        ConfigurationError, match=r"^the arguments of Qwen2_5_VLConfig\.from_pretrained: vocab_size is -1"
    ):
        Qwen2_5_VLConfig.from_pretrained(folder, vocab_size=-1)
    with pytest.raises(
        ConfigurationError, match=r"config\.json with vocab_size changed: .* is 15\d+, expected ids below"
    ):
        Qwen2_5_VLConfig.from_pretrained(folder, vocab_size=100)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b'{"a": 1', "{}".encode("utf-16"), b"[" * 100_000])
def test_files_that_are_no_json_object(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"{path} .*(cannot be read|expected a JSON object)"):
        Qwen2_5_VLConfig.from_pretrained(path)


def test_a_folder_without_a_config(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigurationError, match=r"holds no config\.json, found notes\.txt: give a model's folder"):
        Qwen2_5_VLConfig.from_pretrained(tmp_path)


def test_keys_that_nobody_knows_are_kept_unless_a_class_has_something_of_that_name(tmp_path):
    config = load(tmp_path, {**hub_config("3B"), "trained_by": "me", "to_dict": 3, "head_dim": 128, "": 1, "self": 1})
    assert config.trained_by == "me" and config.to_dict()["trained_by"] == "me" and config.head_dim == 128


def test_keys_of_the_same_name_as_arguments(tmp_path):
    vision = {**hub_config("3B")["vision_config"], "source": 1, "self": 2}
    config = load(tmp_path, {**hub_config("3B"), "source": "the web", "self": 1, "cls": 2, "vision_config": vision})
    assert config.source == "the web" and config.hidden_size == 2048


def test_as_the_dictionary_that_it_gives():
    for config in (Qwen2_5_VLConfig(), Qwen2_5_VLConfig.of_size("3B")):
        assert_same(Qwen2_5_VLConfig(**config.to_dict()), config)
        assert_same(Qwen2_5_VLConfig.from_dict(config.to_dict()), config)


def test_a_change_goes_before_either_form_of_the_file(tmp_path):
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "mrope_section": [20, 22, 22]}}
    text = {name: value for name, value in nested(hub_config("3B"))["text_config"].items() if "rope" not in name}
    folder = hub_model.write_config(tmp_path, {**nested(hub_config("3B")), "text_config": {**text, **rope}})
    changed = Qwen2_5_VLConfig.from_pretrained(folder, rope_theta=1e4, num_hidden_layers=3, vocab_size=152000)
    assert (changed.rope_theta, changed.num_hidden_layers, changed.vocab_size) == (1e4, 3, 152000)
    assert changed.rope_scaling["mrope_section"] == [20, 22, 22]


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
    with pytest.raises(ConfigurationError, match=r"num_attention_heads is 5, expected hidden_size 2048"):
        Qwen2_5_VLConfig.from_pretrained(folder, num_attention_heads=5)
    with pytest.raises(ConfigurationError, match=r"mrope_section"):
        Qwen2_5_VLConfig.from_pretrained(folder, rope_scaling={"mrope_section": [1, 2, 3]})


def test_settings_that_nobody_knows(tmp_path):
    folder = hub_model.write_config(tmp_path, hub_config("3B"))
    with pytest.raises(ConfigurationError, match=r"knows no argument 'num_hidden_layer' \(2\): 'num_hidden_layers'"):
        Qwen2_5_VLConfig.from_pretrained(folder, num_hidden_layer=2)
    config, unused = Qwen2_5_VLConfig.from_pretrained(folder, return_unused_kwargs=True, foo=1, hidden_act="silu")
    assert unused == {"foo": 1} and config.hidden_size == 2048


def test_vision_config_takes_both_names_of_its_channels():
    assert Qwen2_5_VLVisionConfig(in_chans=1).in_channels == Qwen2_5_VLVisionConfig(in_channels=1).in_channels == 1
    assert Qwen2_5_VLVisionConfig(in_channels=1, in_chans=3).in_channels == 1


def test_lists_are_not_shared_between_configs():
    one, other = Qwen2_5_VLVisionConfig(), Qwen2_5_VLVisionConfig()
    one.fullatt_block_indexes.append(3)
    assert other.fullatt_block_indexes == [7, 15, 23, 31]


def test_full_attention_beyond_the_last_block_means_nothing():
    """Small models made of the released configs leave the list as it is."""
    config = Qwen2_5_VLConfig(vision_config={"depth": 8, "fullatt_block_indexes": [7, 15, 23, 31]})
    assert config.vision_config.fullatt_block_indexes == [7, 15, 23, 31]
