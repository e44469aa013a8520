"""Where settings come from, and which cannot be carried out."""

import json
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.engine.settings import GenerationSettings, check_leftovers
from paddlemix_qwenvl.errors import ConfigurationError, GenerationError
from paddlemix_qwenvl.models.generation_config import GENERATION_CONFIG, read_generation_file, write_generation_config

generation_config_of = Qwen2_5_VLForConditionalGeneration.generation_config_of
CONFIG = SimpleNamespace(eos_token_id=7, pad_token_id=None)
HUB_FILE = {
    "bos_token_id": 151643,
    "pad_token_id": 151643,
    "do_sample": True,
    "eos_token_id": [151645, 151643],
    "repetition_penalty": 1.05,
    "temperature": 0.000001,
    "transformers_version": "4.49.0",
}


def read_generation_config(folder):
    return generation_config_of(read_generation_file(folder / GENERATION_CONFIG))


def resolve(defaults=None, config=CONFIG, **given) -> GenerationSettings:
    return GenerationSettings.resolve(generation_config_of(defaults or {}), config, given)


def test_what_nothing_says():
    settings = resolve()
    assert settings == GenerationSettings(eos_token_ids=[7], pad_token_id=7)
    assert (settings.max_new_tokens, settings.do_sample, settings.num_beams, settings.seed) == (128, False, 1, None)


def test_the_hubs_file():
    settings = resolve(HUB_FILE)
    assert settings.do_sample and settings.temperature == 1e-6 and settings.repetition_penalty == 1.05
    assert settings.eos_token_ids == [151645, 151643] and settings.pad_token_id == 151643


def test_the_call_goes_before_the_file_and_the_file_before_the_config():
    file = {**HUB_FILE, "max_new_tokens": 33, "top_p": 0.5}
    settings = resolve(file, temperature=0.7, eos_token_id=5, pad_token_id=6)
    assert (settings.temperature, settings.eos_token_ids, settings.pad_token_id) == (0.7, [5], 6)
    assert (settings.max_new_tokens, settings.top_p) == (33, 0.5)
    assert resolve(file, do_sample=False).temperature == 0.0
    assert resolve(file, max_new_tokens=None, top_p=None).max_new_tokens == 33


@pytest.mark.parametrize("eos", [[3, 4], (3, 4)], ids=str)
def test_several_end_tokens(eos):
    assert resolve(eos_token_id=eos).eos_token_ids == [3, 4]
    assert resolve(config=SimpleNamespace(eos_token_id=eos, pad_token_id=None)).eos_token_ids == [3, 4]


def test_no_end_token():
    settings = resolve(config=SimpleNamespace(eos_token_id=None, pad_token_id=None))
    assert settings.eos_token_ids == [] and settings.pad_token_id == 0
    assert resolve(eos_token_id=[]).eos_token_ids == []


def test_zero_is_a_token_like_any_other():
    settings = resolve({"eos_token_id": 5, "pad_token_id": 4}, eos_token_id=0, pad_token_id=0)
    assert (settings.eos_token_ids, settings.pad_token_id) == ([0], 0)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"decode_strategy": "greedy_search"}, {"do_sample": False, "num_beams": 1}),
        ({"decode_strategy": "sampling", "top_k": 5}, {"do_sample": True, "top_k": 5, "num_beams": 1}),
        ({"decode_strategy": "beam_search"}, {"do_sample": False, "num_beams": 4}),
        ({"decode_strategy": "beam_search", "num_beams": 3}, {"num_beams": 3}),
        ({"max_length": 11, "min_length": 2}, {"max_new_tokens": 11, "min_new_tokens": 2}),
        ({"max_length": 11, "max_new_tokens": 12}, {"max_new_tokens": 12}),
        ({"num_beams": 3}, {"num_beams": 3}),
        (
            {"num_beams": 3, "length_penalty": 0.5, "early_stopping": True},
            {"length_penalty": 0.5, "early_stopping": True},
        ),
    ],
    ids=str,
)
def test_paddlenlps_spelling(given, wanted):
    settings = resolve(**given)
    assert {name: getattr(settings, name) for name in wanted} == wanted


@pytest.mark.parametrize("strategy", ["greedy_search", "beam_search"])
def test_a_strategy_goes_before_the_files_sampling(strategy):
    settings = resolve(HUB_FILE, decode_strategy=strategy)
    assert not settings.do_sample and settings.temperature == 0.0


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ({"decode_strategy": "sampling"}, {"do_sample": True, "num_beams": 1}),
        ({"decode_strategy": "beam_search", "num_beams": 3}, {"do_sample": False, "num_beams": 3}),
        ({"num_beams": 3}, {"num_beams": 3}),
    ],
    ids=str,
)
def test_strategies_of_a_file(file, wanted):
    settings = resolve(file)
    assert {name: getattr(settings, name) for name in wanted} == wanted


def test_settings_are_taken_out_of_the_call_and_nothing_else():
    given = {
        "max_new_tokens": 5,
        "eos_token_id": 1,
        "pixel_values": "kept",
        "decode_strategy": "sampling",
        "max_length": 3,
    }
    GenerationSettings.resolve(generation_config_of({}), CONFIG, given)
    assert given == {"pixel_values": "kept"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_new_tokens": 0}, r"max_new_tokens is 0, expected greater than or equal to 1"),
        ({"max_new_tokens": -3}, r"max_new_tokens is -3, expected"),
        ({"max_new_tokens": "many"}, r'max_new_tokens is "many", expected a valid integer'),
        ({"max_new_tokens": 5.0}, r"max_new_tokens is 5\.0, expected a valid integer"),
        ({"max_length": 0}, r"max_length is 0, expected greater than or equal to 1"),
        ({"min_new_tokens": -1}, r"min_new_tokens is -1, expected greater than or equal to 0"),
        ({"temperature": -0.5}, r"temperature is -0\.5, expected greater than or equal to 0"),
        ({"temperature": float("nan")}, r"temperature is NaN, expected"),
        ({"temperature": "0.5"}, r'temperature is "0\.5", expected a valid number'),
        ({"top_k": -1}, r"top_k is -1, expected greater than or equal to 0"),
        ({"top_k": True}, r"top_k is true, expected a valid integer"),
        ({"top_p": 0.0}, r"top_p is 0\.0, expected greater than 0"),
        ({"top_p": 1.5}, r"top_p is 1\.5, expected less than or equal to 1"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty is 0\.0, expected"),
        ({"num_beams": 0}, r"num_beams is 0, expected greater than or equal to 1"),
        ({"num_beams": 2**31}, r"num_beams is 2147483648, expected less than or equal to 100"),
        ({"num_beams": 2, "do_sample": True}, r"do_sample is true and num_beams is 2, which exclude each other"),
        ({"do_sample": "true"}, r'do_sample is "true", expected a valid boolean'),
        ({"length_penalty": 1e308}, r"length_penalty is 1e\+308, expected"),
        ({"eos_token_id": [5, "x"]}, r'eos_token_id\[1\] is "x"'),
        ({"eos_token_id": -1}, r"eos_token_id is -1, expected"),
        ({"seed": -1}, r"seed is -1, expected"),
        ({"decode_strategy": "diverse"}, r"decode_strategy is \"diverse\", expected 'greedy_search', 'sampling' or"),
        (
            {"num_return_sequences": 0, "do_sample": True},
            r"num_return_sequences is 0, expected greater than or equal to 1",
        ),
        (
            {"num_return_sequences": 2},
            r"num_return_sequences is 2, but only samples differ from each other: set do_sample=True",
        ),
        ({"min_p": 1.5}, r"min_p is 1\.5, expected less than or equal to 1"),
        ({"presence_penalty": float("nan")}, r"presence_penalty is NaN, expected"),
        ({"frequency_penalty": 101}, r"frequency_penalty is 101, expected less than or equal to 100"),
        ({"logit_bias": {5: float("nan")}}, r"logit_bias.*NaN, expected"),
        ({"logit_bias": {-5: 1.0}}, r"logit_bias.*expected"),
        ({"logit_bias": [5]}, r"logit_bias is \[5\], expected an object"),
        ({"prompt_lookup_num_tokens": -1}, r"prompt_lookup_num_tokens is -1, expected greater than or equal to 0"),
        ({"max_new_tokens": 5, "min_new_tokens": 6}, r"min_new_tokens is 6: it must be at most max_new_tokens, 5"),
    ],
    ids=str,
)
def test_what_cannot_be_carried_out(given, message):
    with pytest.raises(GenerationError, match=message):
        resolve(**given)


def test_what_falls_on_single_tokens_and_answers():
    settings = resolve({"do_sample": True, "logit_bias": {"5": 1, "7": -100}}, num_return_sequences=3, min_p=0.25)
    assert settings.logit_bias == {5: 1.0, 7: -100.0} and settings.min_p == 0.25
    assert (settings.width, resolve(num_beams=4).width, resolve().width) == (3, 4, 1)


def test_numbers_as_numpy_and_paddle_have_them():
    given = {"top_k": np.int64(3), "temperature": np.float32(0.5), "eos_token_id": np.array([1, 2]), "do_sample": True}
    settings = resolve(**given, pad_token_id=paddle.to_tensor(4), top_p=1)
    assert (settings.top_k, settings.temperature, settings.eos_token_ids) == (3, 0.5, [1, 2])
    assert (settings.pad_token_id, settings.top_p) == (4, 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eos_token_id": [151645, "151643"]}, r'eos_token_id\[1\] is "151643", expected a valid integer'),
        ({"temperature": "0.1"}, r'temperature is "0\.1", expected a valid number'),
        ({"temperature": -1}, r"temperature is -1, expected greater than or equal to 0"),
        ({"top_p": 2}, r"top_p is 2, expected less than or equal to 1"),
        ({"max_new_tokens": 2**40}, r"max_new_tokens is 1099511627776, expected less than"),
        ({"num_return_sequences": 0}, r"num_return_sequences is 0, expected greater than or equal to 1"),
        ({"early_stopping": []}, r"early_stopping is \[\], expected a valid boolean"),
        ({"pad_token_id": {}}, r"pad_token_id is \{\}"),
        ({"decode_strategy": "x"}, r'decode_strategy is "x"'),
    ],
    ids=str,
)
def test_wrong_values_of_a_file(tmp_path, changes, message):
    (tmp_path / "generation_config.json").write_text(json.dumps({**HUB_FILE, **changes}))
    with pytest.raises(ConfigurationError, match=rf"^{tmp_path}/generation_config\.json: {message}"):
        read_generation_config(tmp_path)


def test_null_and_keys_that_nobody_knows_of_a_file(tmp_path):
    odd = {
        "top_k": None,
        "temperature": 0,
        "max_new_tokens": None,
        "to_diff_dict": 1,
        "self": 2,
        "foo": [1],
        "eos_token_id": [5],
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(odd))
    config = read_generation_config(tmp_path)
    settings = GenerationSettings.resolve(config, CONFIG, {"do_sample": True})
    assert (settings.top_k, settings.temperature, settings.max_new_tokens, config.foo) == (50, 0.0, 128, [1])
    assert config.to_diff_dict()["foo"] == [1]


@pytest.mark.parametrize("said", [20, 33, None])
def test_twenty_tokens_in_a_file_are_twenty_tokens(tmp_path, said):
    """PaddleNLP's own default is 20, too, where a file says nothing; ours is 128 then."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    file = HUB_FILE if said is None else {**HUB_FILE, "max_new_tokens": said}
    (tmp_path / "a" / "generation_config.json").write_text(json.dumps(file))
    config = read_generation_config(tmp_path / "a")
    write_generation_config(config, tmp_path / "b")
    for one in (config, read_generation_config(tmp_path / "b")):
        assert GenerationSettings.resolve(one, CONFIG, {}).max_new_tokens == (said or 128)
    written = json.loads((tmp_path / "b" / "generation_config.json").read_text())
    assert written.get("max_new_tokens") == said and written["temperature"] == 1e-6
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["generation_config.json"]


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ({"max_tokens": 5}, r"no argument 'max_tokens' \(did you mean 'max_new_tokens'\?\)"),
        ({"topp": 0.5}, r"no argument 'topp' \(did you mean 'top_p'\?\)"),
        ({"pixel_value": 0}, r"no argument 'pixel_value' \(did you mean 'pixel_values'\?\)"),
        ({"num_beam_groups": 2}, r"no argument 'num_beam_groups'"),
        ({"use_cache": 0.5}, r"no argument 'use_cache'"),
    ],
    ids=str,
)
def test_arguments_that_nobody_knows(left, message):
    with pytest.raises(GenerationError, match=message):
        check_leftovers(left, ["pixel_values"])


def test_arguments_that_ask_for_nothing():
    nothing = {"use_cache": True, "num_beam_groups": 1, "output_scores": False, "negative_prompt_ids": None}
    check_leftovers({**nothing, "pixel_values": object()}, ["pixel_values"])


@pytest.mark.parametrize(
    "given", [{"eos_token_id": [5, 100]}, {"pad_token_id": 100}, {"logit_bias": {100: 1.0}}], ids=str
)
def test_tokens_outside_the_vocabulary(given):
    (name,) = given
    with pytest.raises(GenerationError, match=rf"{name} is 100 but the model knows tokens 0 to 99"):
        resolve(**given).check_vocabulary(100)
    resolve(eos_token_id=[0, 99]).check_vocabulary(100)
