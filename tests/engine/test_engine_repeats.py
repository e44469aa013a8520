"""Decode steps that the library repeats: the answers are those of steps that Python takes, and which steps are repeated."""

import numpy as np
import paddle
import pytest
import qwen_vl_model
from reference.qwen_vl import qwen_vl_cases
from table_model import events_of, finished

from paddlemix_qwenvl import QWenLMHeadModel
from paddlemix_qwenvl.engine import repeats
from paddlemix_qwenvl.engine.engine import Engine
from paddlemix_qwenvl.engine.events import Token
from paddlemix_qwenvl.engine.repeats import Repeats
from paddlemix_qwenvl.engine.runner import ModelRunner
from paddlemix_qwenvl.engine.sequence import Request
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.models.prompts import Prompt
from paddlemix_qwenvl.ops.dispatch import compiled_library
from paddlemix_qwenvl.ops.recording import Recording
from paddlemix_qwenvl.parallel import TensorParallel

COMPILED = compiled_library() is not None
PROMPTS = ([5, 6, 7], [8, 9] * 40, [10], [5, 6, 7, 11, 12])


@pytest.fixture
def seen(monkeypatch):
    """What became of steps: whether a recording was made, and "played"."""
    found, of, play = [], Recording.of, Recording.play

    def made(run, given, constant):
        result, recording = of(run, given, constant)
        found.append(recording is not None)
        return result, recording

    monkeypatch.setattr(repeats.Recording, "of", made)
    monkeypatch.setattr(repeats.Recording, "play", lambda self, given: found.append("played") or play(self, given))
    return found


def request(rows: int, prompt: list[int], **settings) -> Request:
    positions = np.broadcast_to(np.arange(len(prompt)), (rows, len(prompt)))
    return Request(Prompt(np.array(prompt), positions, len(prompt), []), GenerationSettings(**settings))


def answers(model, together: bool = True, **settings) -> dict:
    engine, found = Engine(ModelRunner(model), 60, 16), {}
    for seed, prompt in enumerate(PROMPTS):
        engine.add(request(model.position_rows, prompt, max_new_tokens=6 + 3 * seed, seed=seed, **settings))
        found |= {} if together else finished(events_of(engine))
    found |= finished(events_of(engine))
    return {key: (event.token_ids, event.reason, event.score) for key, event in found.items()}


WAYS = {
    "greedy": {},
    "one by one": {"together": False},
    "drawn": {"do_sample": True, "temperature": 1.5, "repetition_penalty": 1.1, "num_return_sequences": 2},
    "beams": {"num_beams": 3},
}


@pytest.mark.parametrize("quantization", [None, "int8", "int4", "fp8"])
@pytest.mark.parametrize("way", WAYS)
def test_answers_are_those_of_steps_that_python_takes(hub_folder, model, monkeypatch, seen, way, quantization):
    if quantization:
        model = type(model).from_pretrained(hub_folder, dtype="bfloat16", quantization=quantization)
    found = answers(model, **WAYS[way])
    if COMPILED:
        assert True in seen and "played" in seen and False not in seen
    monkeypatch.setattr(Repeats, "__call__", lambda self, run, tensors: run())
    assert found == answers(model, **WAYS[way]) and len(found) >= len(PROMPTS)


def test_scaled_queries_are_taken_by_python(tmp_path, monkeypatch, seen):
    """Qwen-VL's, from the first position on that has a factor: before it steps are repeated."""
    config = qwen_vl_cases.CONFIGS["narrow"]
    model = QWenLMHeadModel.from_pretrained(qwen_vl_model.write(tmp_path, config, qwen_vl_cases.tensors(config)))
    assert model.scaled_from == 299

    def tokens_and_played():
        engine, tokens, played = Engine(ModelRunner(model), 60, 16), [], []
        engine.add(request(model.position_rows, [5, 6] * 147, max_new_tokens=12, min_new_tokens=12))
        while engine.busy:
            seen.clear()
            tokens += [event.token_id for event in engine.step() if isinstance(event, Token)]
            played.append("played" in seen)
        return tokens, played

    found, (tokens, played) = answers(model), tokens_and_played()
    assert played == [*[False] * 3, *[COMPILED] * 3, *[False] * 6]
    monkeypatch.setattr(Repeats, "__call__", lambda self, run, tensors: run())
    assert found == answers(model) and tokens == tokens_and_played()[0] and len(tokens) == 12


class Work:
    """Steps of a few rows, by a model or by others."""

    def __init__(self, model):
        self.model, self.calls = model, 0
        self.repeats = Repeats(model)

    def step(self, rows: int) -> list[float]:
        x = paddle.full([rows, self.model.decoder.last_norm.weight.shape[0]], float(rows))

        def run():
            self.calls += 1
            return self.model.decoder.last_norm(x)

        with paddle.no_grad():
            return self.repeats(run, [x]).numpy()[:, 0].tolist()


if COMPILED:

    def test_the_second_of_a_size_is_recorded(model, seen):
        work = Work(model)
        given = [work.step(rows) for rows in (1, 1, 1, 1, 2, 1, 2, 2, 2, 1, 1, 1)]
        assert [len(each) for each in given] == [1, 1, 1, 1, 2, 1, 2, 2, 2, 1, 1, 1]
        assert seen == [True, "played", "played", True, "played", True, "played"]
        assert work.calls == 12 - seen.count("played")

    def test_steps_that_hooks_watch_are_taken_by_python(model, seen):
        counts = []
        hook = model.decoder.blocks[0].register_forward_post_hook(lambda *_: counts.append(1))
        try:
            answers(model, together=False)
        finally:
            hook.remove()
        assert seen == [] and len(counts) > 20

    def test_layers_that_paddle_computes_are_asked_for_once(hub_folder, model, monkeypatch, seen):
        """As an adapter that someone has put in would be."""
        changed = type(model).from_pretrained(hub_folder)
        layer = changed.decoder.blocks[0].mlp.down_proj
        product = layer.product
        monkeypatch.setattr(layer, "product", lambda x, bias: product(x, bias) + 0.5 * product(x, bias))
        found = answers(changed)
        assert seen == [False]
        monkeypatch.setattr(Repeats, "__call__", lambda self, run, tensors: run())
        assert found == answers(changed) != answers(model)

    def test_steps_of_several_ranks_are_taken_by_python(model, monkeypatch, seen):
        monkeypatch.setattr(model.lm_head, "parallel", TensorParallel(0, 2))
        work = Work(model)
        for _ in range(3):
            work.step(1)
        assert seen == [] and work.calls == 3
