"""Any arrivals, settings, cache sizes and cancellations: each answer is the one that the request gets alone."""

import pytest
from ahead_model import AheadModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from neighbours import answers
from table_model import TableModel, picture, plain_prompt

from paddlemix_qwenvl.engine.capacity import blocks_needed
from paddlemix_qwenvl.engine.engine import Engine
from paddlemix_qwenvl.engine.sequence import Request
from paddlemix_qwenvl.engine.settings import GenerationSettings

VOCAB = 7


@st.composite
def requests(draw):
    """Prompts from few tokens and pictures, so that many begin alike."""
    ids = draw(st.lists(st.integers(1, 2), min_size=1, max_size=14))
    media = []
    if draw(st.booleans()):
        for start in range(0, len(ids) - 3, draw(st.integers(3, 5))):
            ids[start : start + 3] = [3] * 3
            media.append(picture(draw(st.integers(0, 1)), range(start, start + 3)))
    count = draw(st.integers(1, 8))
    kind = draw(st.sampled_from(["greedy", "sample", "beams", "several"]))
    values = {"max_new_tokens": count, "pad_token_id": 0, "seed": draw(st.integers(0, 5))}
    values["eos_token_ids"] = draw(st.sampled_from([[], [0], [0, 6]]))
    values["min_new_tokens"] = draw(st.integers(0, min(2, count)))
    values["repetition_penalty"] = draw(st.sampled_from([1.0, 1.3]))
    if kind in ("sample", "several"):
        values |= {
            "do_sample": True,
            "temperature": draw(st.sampled_from([0.5, 2.0])),
            "top_k": draw(st.integers(0, 4)),
        }
        values |= {"top_p": draw(st.sampled_from([0.6, 1.0])), "presence_penalty": draw(st.sampled_from([0.0, 0.5]))}
    if kind == "beams":
        values["num_beams"] = draw(st.integers(2, 3))
    else:
        values["prompt_lookup_num_tokens"] = draw(st.integers(0, 3))
    if kind == "several":
        values["num_return_sequences"] = draw(st.integers(2, 3))
    return Request(plain_prompt(ids, media), GenerationSettings(**values), priority=draw(st.integers(0, 1)))


def alone(request) -> dict:
    engine = Engine(TableModel(VOCAB), num_blocks=200, block_size=4, prefix_cache=False)
    return {index: answer for (_, index), answer in answers(engine, [(0, request)]).items()}


@pytest.mark.parametrize("kind", [TableModel, AheadModel])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.data())
def test_an_answer_does_not_depend_on_its_neighbours(kind, data):
    arrivals = data.draw(st.lists(st.tuples(st.integers(0, 12), requests()), min_size=1, max_size=6))
    block_size = data.draw(st.sampled_from([1, 2, 4, 5]))
    # The least that holds the largest request alone, and more.
    prefix_cache = data.draw(st.booleans())
    sizes = [(len(each.prompt.token_ids), each.settings, block_size, prefix_cache) for _, each in arrivals]
    num_blocks = max(blocks_needed(*size) for size in sizes) + data.draw(st.integers(0, 12))
    places = st.integers(0, len(arrivals) - 1)
    cancelled = data.draw(st.dictionaries(places, st.integers(1, 20), max_size=2)).items()
    model, max_num_seqs = kind(VOCAB), data.draw(st.integers(3, 8))
    engine = Engine(
        model,
        num_blocks,
        block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=data.draw(st.sampled_from([1, 3, 8, 100])),
        prefix_cache=prefix_cache,
        encoder_cache_bytes=data.draw(st.sampled_from([0, 50, 1 << 20])),
    )
    found = answers(engine, arrivals, cancelled)
    for place, (_, request) in enumerate(arrivals):
        for index, (tokens, reason) in alone(request).items():
            answer, ended = found[place, index]
            assert ended in (reason, "cancelled")
            if ended == reason or request.settings.num_beams == 1:
                assert answer == (tokens if ended == reason else tokens[: len(answer)])
    assert engine.blocks.available == num_blocks
    assert not engine.busy and model.most_rows <= max_num_seqs
