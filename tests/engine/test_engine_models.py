"""The engine on a real model, layers and graphs alike: each answer is the one that the request gets alone, in float32."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_engine_properties import answers

from paddlemix_qwenvl.engine.capacity import blocks_needed
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
def questions(draw):
    """A conversation that may begin as another does, and settings."""
    pictures = draw(st.lists(st.sampled_from(PICTURES), max_size=2))
    content = [{"type": "image", "image": picture} for picture in pictures]
    text = draw(st.sampled_from(["the", "the in an", "the in an er " * 12]))
    options = {"max_new_tokens": draw(st.integers(1, 6)), "seed": draw(st.integers(0, 3)), "eos_token_id": []}
    options["repetition_penalty"] = draw(st.sampled_from([1.0, 1.2]))
    kind = draw(st.sampled_from(["greedy", "sample", "beams"]))
    options["do_sample"] = kind == "sample"
    if kind == "sample":
        options |= {"temperature": 1.5, "top_k": 0, "num_return_sequences": draw(st.integers(1, 2))}
    if kind == "beams":
        options["num_beams"] = 2
    else:
        options["prompt_lookup_num_tokens"] = draw(st.sampled_from([0, 3]))
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}], options


@pytest.mark.parametrize("kind", ["layers", "graphs"])
def test_an_answer_does_not_depend_on_its_neighbours(assistants, kind):
    assistant, alone = assistants[kind], {}

    def answer_alone(request) -> dict:
        engine = Engine(assistant.runner, 200, 16, prefix_cache=False, max_num_batched_tokens=4096)
        return {index: answer for (_, index), answer in answers(engine, [(0, request)]).items()}

    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.data())
    def check(data):
        asked = data.draw(st.lists(st.tuples(st.integers(0, 6), questions()), min_size=1, max_size=4))
        arrivals = [(when, assistant.request(messages, **options)[0]) for when, (messages, options) in asked]
        block_size, prefix_cache = data.draw(st.sampled_from([4, 16, 64])), data.draw(st.booleans())
        sizes = [(len(each.prompt.token_ids), each.settings, block_size, prefix_cache) for _, each in arrivals]
        num_blocks = max(blocks_needed(*size) for size in sizes) + data.draw(st.integers(0, 8))
        engine = Engine(
            assistant.runner,
            num_blocks,
            block_size,
            max_num_batched_tokens=data.draw(st.sampled_from([7, 40, 4096])),
            prefix_cache=prefix_cache,
            encoder_cache_bytes=data.draw(st.sampled_from([0, 1 << 20])),
        )
        found = answers(engine, arrivals)
        assert engine.blocks.available == num_blocks
        for place, (_, request) in enumerate(arrivals):
            prompt = request.prompt
            key = repr((prompt.token_ids.tolist(), [each.key for each in prompt.media], asked[place][1]))
            alone[key] = alone.get(key) or answer_alone(request)
            for index, answer in alone[key].items():
                assert found[place, index] == answer

    check()
