"""Where settings come from, and which cannot be carried out."""

from types import SimpleNamespace

import pytest
from paddlenlp.generation import GenerationConfig

from paddlemix_qwenvl.errors import GenerationError
from paddlemix_qwenvl.generation.settings import GenerationSettings

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


def resolve(defaults=None, config=CONFIG, **given) -> GenerationSettings:
    return GenerationSettings.resolve(GenerationConfig(**(defaults or {})), config, given)


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
    GenerationSettings.resolve(GenerationConfig(), CONFIG, given)
    assert given == {"pixel_values": "kept"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_new_tokens": 0}, r"max_new_tokens is 0: it must be at least 1"),
        ({"max_new_tokens": -3}, r"max_new_tokens is -3: it must be at least 1"),
        ({"max_length": 0}, r"max_new_tokens is 0: it must be at least 1"),
        ({"min_new_tokens": -1}, r"min_new_tokens is -1: it must be at least 0"),
        ({"temperature": -0.5}, r"temperature is -0\.5: it must be at least 0"),
        ({"temperature": float("nan")}, r"temperature is nan: it must be at least 0"),
        ({"top_k": -1}, r"top_k is -1: it must be at least 0"),
        ({"top_p": 0.0}, r"top_p is 0\.0: it must be over 0 and at most 1"),
        ({"top_p": 1.5}, r"top_p is 1\.5: it must be over 0 and at most 1"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty is 0\.0: it must be over 0"),
        ({"num_beams": 0}, r"num_beams is 0: it must be at least 1"),
        ({"num_beams": 2, "do_sample": True}, r"do_sample and num_beams over 1 exclude each other"),
        (
            {"decode_strategy": "diverse"},
            r"decode_strategy is 'diverse': it must be one of greedy_search, sampling, beam_search",
        ),
        ({"max_new_tokens": 5, "min_new_tokens": 6}, r"min_new_tokens is 6: it must be at most max_new_tokens, 5"),
        ({"max_new_tokens": "many"}, r"max_new_tokens is 'many': it must be at least 1"),
    ],
    ids=str,
)
def test_what_cannot_be_carried_out(given, message):
    with pytest.raises(GenerationError, match=message):
        resolve(**given)
