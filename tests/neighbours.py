"""Requests on an engine whose answers are held against those that each gets alone."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddlemix_qwenvl.engine.capacity import blocks_needed
from paddlemix_qwenvl.engine.engine import Engine
from paddlemix_qwenvl.engine.events import Failed, Finished, Token
from paddlemix_qwenvl.engine.sequence import Request


def answers(engine, arrivals, cancelled=()) -> dict:
    """Tokens and reason of each answer, by request and index; requests arrive at their steps."""
    numbers, found, told, step = {}, {}, {}, 0
    while len(numbers) < len(arrivals) or engine.busy:
        for place, (when, request) in enumerate(arrivals):
            if when <= step and place not in numbers:
                numbers[place] = engine.add(request)
        for place, when in cancelled:
            if when == step and place in numbers and not any(key[0] == place for key in found):
                engine.cancel(numbers[place])
        place_of = {number: place for place, number in numbers.items()}
        for event in engine.step():
            assert not isinstance(event, Failed), event.error
            if isinstance(event, Token | Finished):
                key = place_of[event.request_id], event.index
            if isinstance(event, Token):
                told.setdefault(key, []).append(event.token_id)
            if isinstance(event, Finished):
                assert key not in found
                found[key] = event.token_ids, event.reason
        step += 1
        assert step < 1000, "nothing moves any more"
    for key, tokens in told.items():
        assert tokens == found[key][0]
    return found


@st.composite
def ways(draw):
    """Settings of a short answer, by name."""
    values = {"max_new_tokens": draw(st.integers(1, 6)), "seed": draw(st.integers(0, 3))}
    values["repetition_penalty"] = draw(st.sampled_from([1.0, 1.2]))
    kind = draw(st.sampled_from(["greedy", "sample", "beams"]))
    values["do_sample"] = kind == "sample"
    if kind == "sample":
        values |= {"temperature": 1.5, "top_k": 0, "num_return_sequences": draw(st.integers(1, 2))}
    if kind == "beams":
        values["num_beams"] = 2
    else:
        values["prompt_lookup_num_tokens"] = draw(st.sampled_from([0, 3]))
    return values


def check_neighbours(runner, requests: st.SearchStrategy[Request], examples: int) -> None:
    """Any arrivals, cache sizes and parts of prompts, on a real model in float32: nobody's answer changes, all blocks are free."""
    alone = {}

    def answer_alone(request: Request) -> dict:
        engine = Engine(runner, 200, 16, prefix_cache=False, max_num_batched_tokens=4096)
        return {index: answer for (_, index), answer in answers(engine, [(0, request)]).items()}

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.data())
    def check(data):
        arrivals = data.draw(st.lists(st.tuples(st.integers(0, 6), requests), min_size=1, max_size=4))
        block_size, prefix_cache = data.draw(st.sampled_from([4, 16, 64])), data.draw(st.booleans())
        sizes = [(len(each.prompt.token_ids), each.settings, block_size, prefix_cache) for _, each in arrivals]
        num_blocks = max(blocks_needed(*size) for size in sizes) + data.draw(st.integers(0, 8))
        engine = Engine(
            runner,
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
            key = repr((prompt.token_ids.tolist(), [each.key for each in prompt.media], request.settings))
            alone[key] = alone.get(key) or answer_alone(request)
            for index, answer in alone[key].items():
                assert found[place, index] == answer

    check()
