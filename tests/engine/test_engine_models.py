"""The engine on a real model, layers and graphs alike: each answer is the one that the request gets alone, in float32."""

import gc

import numpy as np
import pytest
from hypothesis import strategies as st
from neighbours import check_neighbours, ways

from paddlemix_qwenvl.engine.engine import Engine
from paddlemix_qwenvl.engine.runner import ModelRunner
from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.static.export import export
from paddlemix_qwenvl.static.loading import load_export


@pytest.fixture(scope="module")
def assistants(model, processor, tmp_path_factory):
    """Of the dynamic model and of its export."""
    folder = tmp_path_factory.mktemp("engine") / "export"
    export(model, processor, folder, say=lambda line: None)
    of_graphs = load_export(folder)
    dynamic = Assistant.of(ModelRunner(model), processor, of_graphs.prompts, of_graphs.defaults, of_graphs.tokens, 0.0)
    return {"layers": dynamic, "graphs": of_graphs}


PICTURES = [np.random.default_rng(seed).integers(0, 256, (56 + 28 * seed, 84, 3), np.uint8) for seed in range(3)]


@st.composite
def requests(draw, assistant):
    """A conversation that may begin as another does, and a way to go on with it."""
    pictures = draw(st.lists(st.sampled_from(PICTURES), max_size=2))
    content = [{"type": "image", "image": picture} for picture in pictures]
    text = draw(st.sampled_from(["the", "the in an", "the in an er " * 12]))
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
    return assistant.request(messages, eos_token_id=[], **draw(ways()))[0]


@pytest.mark.parametrize("kind", ["layers", "graphs"])
def test_an_answer_does_not_depend_on_its_neighbours(assistants, kind):
    check_neighbours(assistants[kind].runner, requests(assistants[kind]), examples=12)


@pytest.mark.parametrize("kind", ["layers", "graphs"])
def test_answers_leave_no_object_behind(assistants, kind):
    """Paddle keeps a list of each tensor that `paddle.to_tensor` makes: a server's memory would grow for ever."""
    assistant = assistants[kind]
    engine = Engine(assistant.runner, 64)
    content = [{"type": "image", "image": PICTURES[0]}, {"type": "text", "text": "the in"}]
    how = {"max_new_tokens": 8, "do_sample": True, "repetition_penalty": 1.1, "eos_token_id": []}

    def objects_after(answers: int) -> int:
        for _ in range(answers):
            engine.add(assistant.request([{"role": "user", "content": content}], **how)[0])
            engine.forget()
            while engine.busy:
                engine.step()
        gc.collect()
        return len(gc.get_objects())

    before = objects_after(3)
    assert objects_after(10) - before < 10
