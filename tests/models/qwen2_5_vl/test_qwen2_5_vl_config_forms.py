"""One config in all the forms that a config.json has had."""

import pytest
from released_configs import SIZES, assert_holds, hub_config, load, nested

from paddlemix_qwenvl import Qwen2_5_VLConfig


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


def test_text_config_goes_before_what_is_left_of_the_flat_form(tmp_path):
    """transformers 4.57 writes both, and the flat fields may be from before tokens were added."""
    fields = nested(hub_config("3B"))
    fields["text_config"] |= {"tie_word_embeddings": False, "rope_scaling": {"mrope_section": [62, 1, 1]}}
    fields["text_config"] |= {"vocab_size": 152001, "eos_token_id": 5, "rope_theta": 5e5}
    stale = {
        "rope_scaling": {"mrope_section": [32, 16, 16]},
        "vocab_size": 151936,
        "rope_theta": 1e6,
        "eos_token_id": 7,
    }
    config = load(tmp_path, {**fields, **stale})
    assert config.tie_word_embeddings is False and config.rope_scaling["mrope_section"] == [62, 1, 1]
    assert (config.vocab_size, config.eos_token_id, config.rope_theta) == (152001, 5, 5e5)


def test_the_whole_models_dtype_goes_first(tmp_path):
    fields = nested(hub_config("3B"))
    fields["text_config"] |= {"dtype": "float16"}
    assert load(tmp_path, fields).dtype == "bfloat16"
    assert load(tmp_path, {**fields, "torch_dtype": None}).dtype == "float16"
    assert load(tmp_path, {**hub_config("3B"), "dtype": "float32"}).dtype == "float32"
    assert load(tmp_path, {**hub_config("3B"), "torch_dtype": "torch.float16"}).dtype == "float16"


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


def test_rope_scaling_in_text_config_goes_before_a_flat_one_of_another_name(tmp_path):
    fields = {
        **hub_config("3B"),
        "text_config": {"rope_parameters": {"rope_theta": 5e5, "mrope_section": [20, 22, 22]}},
    }
    config = load(tmp_path, fields)
    assert (config.rope_theta, config.rope_scaling["mrope_section"]) == (5e5, [20, 22, 22])
