"""What a model keeps from one call of `generate` to the next with `remember_images`, and who gets to see it."""

import copy
import gc
import threading
import weakref

import paddle
import pytest

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.engine.engine import BLOCK_SIZE
from paddlemix_qwenvl.engine.runner import ModelRunner
from paddlemix_qwenvl.errors import ConfigurationError, GenerationError

GREEDY = {"max_new_tokens": 4, "eos_token_id": [], "do_sample": False}


@pytest.fixture
def fresh(hub_folder):
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(hub_folder)


def answer(model, last: int = 8, **options) -> list[int]:
    return model.generate(paddle.to_tensor([[5, 6, 7, last]]), **GREEDY, **options)[0].tolist()[0]


def test_a_copy_begins_with_nothing(fresh):
    wanted = answer(fresh, remember_images=True)
    twin = copy.deepcopy(fresh)
    assert twin._kept_engine is None and fresh._kept_engine is not None
    assert answer(twin, remember_images=True) == wanted


def test_it_is_forgotten_in_another_dtype(fresh):
    answer(fresh, remember_images=True)
    fresh.to(dtype="bfloat16")
    assert answer(fresh, remember_images=True) == answer(fresh)
    assert fresh._kept_engine.facts.dtype == "bfloat16"


def test_in_training_nothing_is_kept(fresh):
    fresh.train()
    answer(fresh, remember_images=True)
    assert fresh._kept_engine is None


def test_its_memory_is_asked_for(fresh):
    """By the first call that keeps it, until it is forgotten."""
    block = ModelRunner(fresh).facts.bytes_per_token() * BLOCK_SIZE
    wanted = answer(fresh)
    for blocks in (5, 9):
        gib = (blocks + 0.5) * block / 2**30
        assert answer(fresh, remember_images=True, kv_cache_gib=gib) == wanted
        assert answer(fresh, remember_images=True, kv_cache_gib=2 * gib) == wanted
        assert fresh._kept_engine.blocks.num_blocks == blocks
        fresh.forget_images()
        assert fresh._kept_engine is None and fresh._kept_runner is None


@pytest.mark.parametrize("gib", [0, 1e9, float("nan"), "1", True, [1]], ids=str)
def test_memory_that_is_not_to_be_had(fresh, gib):
    with pytest.raises(ConfigurationError, match=r"^kv_cache_gib is .*: give "):
        answer(fresh, remember_images=True, kv_cache_gib=gib)
    assert answer(fresh, remember_images=True) == answer(fresh)


def test_no_memory_is_asked_for_where_nothing_is_kept(fresh):
    with pytest.raises(GenerationError, match="kv_cache_gib is of the cache that remember_images keeps: set"):
        answer(fresh, kv_cache_gib=0.1)


def test_it_is_forgotten_when_asked_to(fresh):
    """Weights that are changed by hand."""
    prompt = paddle.to_tensor([[*range(5, 105)]])

    def tokens(**options):
        return fresh.generate(prompt, **GREEDY, **options)[0].tolist()

    before = tokens(remember_images=True)
    for layer in fresh.model.layers:
        layer.mlp.down_proj.weight.set_value(-layer.mlp.down_proj.weight)
    fresh.forget_images()
    assert tokens(remember_images=True) == tokens() != before


def test_it_does_not_keep_the_model(hub_folder):
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(hub_folder)
    answer(model, remember_images=True)
    gone = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()


def test_threads_share_it(fresh):
    lasts = range(8, 11)
    wanted = {last: answer(fresh, last) for last in lasts}
    found = {last: [] for last in lasts}

    def ask(last):
        for _ in range(4):
            found[last].append(answer(fresh, last, remember_images=True))

    threads = [threading.Thread(target=ask, args=[last], daemon=True) for last in lasts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {last: [wanted[last]] * 4 for last in lasts}
    engine = fresh._kept_engine
    assert not engine.busy and engine.blocks.available == engine.blocks.num_blocks


def test_a_criterion_may_ask_the_model_itself(fresh):
    inner = []

    def ask(token_ids, scores):
        inner.append(answer(fresh, 9, remember_images=True))
        return False

    assert answer(fresh, remember_images=True, stopping_criteria=ask) == answer(fresh)
    assert inner == [answer(fresh, 9)] * 4
    assert paddle.is_grad_enabled()
