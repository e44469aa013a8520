"""A model on the stand-in card: a decode step waits for nothing, and answers are those of a runner that is waited for."""

import gc

import hub_model
import numpy as np
import pytest
from gpu_counts import counting
from gpu_stand_in import card
from table_model import events_of, finished

from paddlemix_qwenvl import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.engine.device_runner import DeviceRunner, runner_of
from paddlemix_qwenvl.engine.engine import Engine
from paddlemix_qwenvl.engine.runner import ModelRunner
from paddlemix_qwenvl.engine.sequence import Request
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.models.prompts import Prompt

PROMPTS = ([5, 6, 7], [8, 9] * 40, [10], [5, 6, 7, 11, 12])
WAYS = {
    "greedy": {},
    "penalty": {"repetition_penalty": 1.05, "eos_token_ids": [1], "min_new_tokens": 3},
    "drawn": {"do_sample": True, "temperature": 1.5, "top_p": 0.9, "presence_penalty": 0.5, "frequency_penalty": 0.3},
    "biased": {"do_sample": True, "temperature": 0.8, "logit_bias": {6: 1.5, 9: -2.0}, "num_return_sequences": 2},
}


def request(prompt: list[int], **settings) -> Request:
    positions = np.broadcast_to(np.arange(len(prompt)), (3, len(prompt)))
    return Request(Prompt(np.array(prompt), positions, len(prompt), []), GenerationSettings(**settings))


def answers(runner, settings: dict) -> dict:
    engine = Engine(runner, 40, 16)
    for seed, prompt in enumerate(PROMPTS):
        engine.add(request(prompt, max_new_tokens=8 + seed, seed=seed, **settings))
    found = finished(events_of(engine))
    return {key: (event.token_ids, event.reason, round(event.score, 4)) for key, event in found.items()}


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS.keys())
def test_answers_are_those_of_a_runner_that_is_waited_for(model, settings):
    with card((8, 0), kernels=True):
        found, wanted = answers(DeviceRunner(model), settings), answers(ModelRunner(model), settings)
    assert found == wanted and len(found) == len(PROMPTS) * settings.get("num_return_sequences", 1)


def test_the_runner_is_that_of_the_device(model):
    assert type(runner_of(model)) is ModelRunner
    with card((8, 0)):
        assert type(runner_of(model)) is DeviceRunner


def decode_step(model, ways: str = "greedy", prompts: int = 1, **options):
    """Counts of one decode step amid an answer."""
    with card((8, 0), kernels=True):
        engine = Engine(DeviceRunner(model, **options), 40, 16)
        for prompt in PROMPTS[:prompts]:
            engine.add(request(prompt, max_new_tokens=20, **WAYS[ways]))
        for _ in range(8):
            engine.step()
        with counting() as counts:
            engine.step()
    return counts


@pytest.mark.parametrize("no_cuda_graph", [False, True])
@pytest.mark.parametrize("ways", WAYS)
def test_no_wait_for_the_device_in_a_decode_step(model, ways, no_cuda_graph):
    """One small copy to the device, one from it, and what is waited for is the one before."""
    counts = decode_step(model, ways, 3, no_cuda_graph=no_cuda_graph)
    assert counts.log == ["upload", "download", "wait"]
    assert counts.played["graph"] == (not no_cuda_graph)


def test_operations_of_a_layer_and_of_a_step():
    """Of a layer: two norms, four products, attention with rotation and cache, and SwiGLU."""
    counts = []
    for layers in (2, 3):
        config = Qwen2_5_VLConfig(**hub_model.config(num_hidden_layers=layers))
        counts.append(decode_step(Qwen2_5_VLForConditionalGeneration(config).eval(), no_cuda_graph=True))
    a_layer = counts[1].played - counts[0].played
    assert a_layer == {
        "fused_rms_norm": 2,
        "fused_matmul_bias": 1,
        "qkv_decode_attention": 1,
        "_matmul": 3,
        "swiglu": 1,
    }
    assert counts[1].operations - counts[0].operations == 8
    assert counts[0].operations <= 16 + 41


def test_answers_leave_no_object_behind(model):
    def objects_after(count: int) -> int:
        for _ in range(count):
            engine.add(request(PROMPTS[0], max_new_tokens=8, **WAYS["penalty"]))
            engine.forget()
            events_of(engine)
        gc.collect()
        return len(gc.get_objects())

    with card((8, 0), kernels=True):
        engine = Engine(DeviceRunner(model), 40, 16)
        before = objects_after(3)
        assert objects_after(10) - before < 10


def test_operations_of_a_graph(model):
    assert decode_step(model).operations == 2
