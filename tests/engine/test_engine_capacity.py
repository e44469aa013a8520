"""How many blocks a request may fill, and how many there is room for."""

import re
from types import SimpleNamespace

import pytest

from paddlemix_qwenvl.engine.capacity import blocks_needed, blocks_there_is_room_for
from paddlemix_qwenvl.engine.runner import Facts
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.errors import ConfigurationError

FACTS = Facts(layers=28, kv_heads=4, head_dim=128, dtype="bfloat16", vocab_size=10, context=32768)


def runner(free: int = 0, device: str = "cpu"):
    return SimpleNamespace(facts=FACTS, free_memory=lambda: (device, free))


@pytest.mark.parametrize(
    ("prompt", "settings", "shared", "blocks"),
    [
        (1, {"max_new_tokens": 3}, True, 1),
        (2, {"max_new_tokens": 3}, True, 2),
        (9, {"max_new_tokens": 7}, True, 4),
        (9, {"max_new_tokens": 7, "num_beams": 3}, True, 4 + 2 * 2),
        (9, {"max_new_tokens": 7, "num_beams": 3}, False, 3 * 4),
        (
            9,
            {"max_new_tokens": 7, "num_return_sequences": 3, "do_sample": True},
            True,
            4,
        ),  # others can give theirs back
    ],
    ids=str,
)
def test_blocks_of_a_request(prompt, settings, shared, blocks):
    assert blocks_needed(prompt, GenerationSettings(**settings), 4, shared) == blocks


@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", 2), ("float16", 2), ("float32", 4)])
def test_bytes_of_a_token(dtype, size):
    facts = Facts(layers=3, kv_heads=2, head_dim=8, dtype=dtype, vocab_size=10, context=10)
    assert facts.bytes_per_token() == 2 * 3 * 2 * 8 * size


def test_blocks_of_so_many_gib():
    """Qwen2.5-VL-7B: 57 344 bytes a token."""
    assert FACTS.bytes_per_token() == 57344
    assert blocks_there_is_room_for(runner(2**32), 32, kv_cache_gib=4) == 4 * 2**30 // (32 * 57344)


@pytest.mark.parametrize(("device", "share"), [("cpu", 0.25), ("gpu", 0.8)])
def test_a_share_of_what_is_free(device, share):
    assert blocks_there_is_room_for(runner(2**30, device), 32) == int(share * 2**30) // (32 * 57344)


def test_no_more_than_four_contexts_and_no_less_than_one_block():
    assert blocks_there_is_room_for(runner(2**50), 32) == 4 * 32768 // 32
    assert blocks_there_is_room_for(runner(0), 32) == 1


@pytest.mark.parametrize("gib", [0.001, 0, -1, 4.01, float("inf"), float("nan")])
def test_less_than_one_block_or_more_than_is_free(gib):
    message = f"kv_cache_gib is {gib:g}: give from 0.0017, a block of 32 tokens, to 4, which are free."
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        blocks_there_is_room_for(runner(2**32), 32, kv_cache_gib=gib)
