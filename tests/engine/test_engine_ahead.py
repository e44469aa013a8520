"""On a device that computes while Python goes on, a step is queued before the tokens of the one before it are read."""

import numpy as np
import pytest
from ahead_model import AheadModel
from table_model import TableModel, answer_of, engine_of, events_of, finished, request

from paddlemix_qwenvl.engine.events import Failed
from paddlemix_qwenvl.engine.sequence import Sequence

PROMPT = [1, 2, 3]


def steps_ahead(model: AheadModel) -> list[int]:
    """How many steps had been queued behind each when it was read."""
    queued = [number for what, number in model.log if what == "queued"]
    read = [sum(what == "queued" for what, _ in model.log[: model.log.index(("read", number))]) for number in queued]
    return [count - queued.index(number) - 1 for number, count in zip(queued, read, strict=True)]


def test_every_step_but_the_last_is_read_one_late():
    model = AheadModel(20)
    assert answer_of(engine_of(model), PROMPT, max_new_tokens=8) == answer_of(engine_of(), PROMPT, max_new_tokens=8)
    assert steps_ahead(model) == [1] * 6 + [0]  # the first token of an answer is the prompt's


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.3},
        {"do_sample": True, "temperature": 2.0, "seed": 5, "presence_penalty": 0.7, "frequency_penalty": 0.4},
        {"do_sample": True, "seed": 1, "num_return_sequences": 3},
        {"eos_token_ids": [4, 7], "min_new_tokens": 3, "logit_bias": {4: 2.0}},
    ],
    ids=str,
)
def test_answers_are_those_of_a_device_that_is_waited_for(settings):
    found, ahead = ({}, {})
    for model, answers in ((TableModel(12), found), (AheadModel(12), ahead)):
        engine = engine_of(model)
        for prompt in (PROMPT, [5], [1, 2, 3, 4, 5, 6]):
            engine.add(request(prompt, settings={"max_new_tokens": 9, **settings}))
        for key, event in finished(events_of(engine)).items():
            answers[key] = event.token_ids, event.reason, round(event.score, 5)
        assert engine.blocks.available == engine.blocks.num_blocks
    assert ahead == found and len(found) == 3 * settings.get("num_return_sequences", 1)


@pytest.mark.parametrize(
    "settings, options",
    [({"prompt_lookup_num_tokens": 3}, {}), ({"num_beams": 2}, {}), ({}, {"top_logprobs": 2})],
    ids=["lookup", "beams", "likeliest"],
)
def test_what_needs_a_token_at_once_is_not_read_late(settings, options):
    model, tokens = AheadModel(20), []
    for each in (model, TableModel(20)):
        engine = engine_of(each)
        engine.add(request(PROMPT, settings={"max_new_tokens": 6, **settings}, **options))
        tokens.append(finished(events_of(engine))[0, 0].token_ids)
    assert tokens[0] == tokens[1] and not model.log


def test_a_request_that_comes_between_reads_what_was_queued():
    model = AheadModel(20)
    engine = engine_of(model)
    first = engine.add(request(PROMPT, settings={"max_new_tokens": 12}))
    for _ in range(4):
        engine.step()
    assert model.log[-1] == ("read", 3)
    second = engine.add(request([4], settings={"max_new_tokens": 4}))
    found = finished(events_of(engine))
    for number, prompt, count in ((first, PROMPT, 12), (second, [4], 4)):
        assert found[number, 0].token_ids == answer_of(engine_of(), prompt, max_new_tokens=count)


def test_a_cancelled_answer_is_what_was_read():
    engine = engine_of(AheadModel(20))
    number = engine.add(request(PROMPT, settings={"max_new_tokens": 12}))
    for _ in range(4):
        engine.step()
    engine.cancel(number)
    (event,) = events_of(engine)
    assert event.reason == "cancelled" and event.token_ids == answer_of(engine_of(), PROMPT, max_new_tokens=3)
    assert answer_of(engine, PROMPT, max_new_tokens=5) == answer_of(engine_of(), PROMPT, max_new_tokens=5)


class Broken(AheadModel):
    def logits(self, history):
        return super().logits(history) * (np.nan if len(history) > 6 else 1)


def test_logits_that_are_no_numbers_end_the_request_a_step_late():
    engine = engine_of(Broken(20))
    engine.add(request(PROMPT, settings={"max_new_tokens": 12}))
    *_, last = events_of(engine)
    assert isinstance(last, Failed) and "NaN or infinity" in str(last.error)
    assert engine.blocks.available == engine.blocks.num_blocks and not engine.busy


def test_an_unread_token_is_a_row_of_the_step_before():
    sequence = Sequence(request(PROMPT, settings={"max_new_tokens": 4}), (0, 0, 0), seed=0)
    sequence.computed = 3
    assert not sequence.may_be_read_late
    sequence.append(9, 0.0)
    assert sequence.may_be_read_late and (sequence.remaining, sequence.total) == (1, 4)
    sequence.computed = 4
    sequence.expect(2)
    assert (sequence.length, sequence.total, sequence.remaining, sequence.ids[4]) == (4, 5, 1, -3)
    assert sequence.new_ids.tolist() == [9]
    sequence.append(7, 0.0)
    assert (sequence.length, sequence.total) == (5, 5) and sequence.new_ids.tolist() == [9, 7]
