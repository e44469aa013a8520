"""Requests on an engine: what is told of them, what is refused, what is computed once, and what is given back."""

import pytest
from table_model import TableModel, answer_of, engine_of, events_of, finished, greedy, picture, request

from paddlemix_qwenvl.engine.events import Finished, Progress, Token
from paddlemix_qwenvl.errors import GenerationError, PromptError

PROMPT = [1, 2, 3, 4, 5, 6]


# ---- events


def test_events_of_a_request_in_order():
    model = TableModel(20)
    engine = engine_of(model, max_num_batched_tokens=4)
    number = engine.add(request(PROMPT, settings={"max_new_tokens": 3}))
    steps = []
    while engine.busy:
        steps.append(engine.step())
    tokens, score = greedy(model, PROMPT, 3)
    logs = [model.log_probabilities([*PROMPT, *tokens[:i]])[token] for i, token in enumerate(tokens)]
    assert [[type(event) for event in step] for step in steps] == [
        [Progress],
        [Progress, Token],
        [Token],
        [Token, Finished],
    ]
    assert steps[0] == [Progress(number, 4, 6)] and steps[1][0] == Progress(number, 6, 6)
    for step, token, log in zip(steps[1:], tokens, logs, strict=True):
        (event,) = (event for event in step if isinstance(event, Token))
        assert (event.request_id, event.index, event.token_id, event.text) == (number, 0, token, "")
        assert event.log_probability == pytest.approx(log, abs=1e-5)
    last = steps[-1][-1]
    assert (last.request_id, last.index, last.reason, last.token_ids) == (number, 0, "length", tokens)
    assert last.score == pytest.approx(score, abs=1e-5)
    assert (last.text, last.prompt_tokens, last.cached_tokens) == ("", 6, 0)
    assert engine.step() == []


def test_seconds_of_a_request():
    engine = engine_of()
    engine.add(request(PROMPT, [picture(1, [2, 3])], {"max_new_tokens": 3}))
    seconds = events_of(engine)[-1].seconds
    assert list(seconds) == ["waiting", "vision", "prefill", "decode"]
    assert min(seconds.values()) > 0


@pytest.mark.parametrize("eos", [[], [0, 3, 7]])
def test_why_an_answer_ends(eos):
    model = TableModel(8, seed=1)
    tokens, _ = greedy(model, PROMPT, 12, eos)
    engine = engine_of(model)
    engine.add(request(PROMPT, settings={"max_new_tokens": 12, "eos_token_ids": eos}))
    last = events_of(engine)[-1]
    assert (last.reason, last.token_ids) == ("stop" if eos else "length", tokens)
    assert len(tokens) < 12 or not eos


def test_an_end_token_at_the_last_place_is_an_end():
    model = TableModel(8, seed=1)
    tokens, _ = greedy(model, PROMPT, 3)
    engine = engine_of(model)
    assert tokens[2] not in tokens[:2]
    engine.add(request(PROMPT, settings={"max_new_tokens": 3, "eos_token_ids": [tokens[2]]}))
    assert events_of(engine)[-1].reason == "stop"


class Letters:
    """Token 0 is `A`, and so on; 19 is half a character."""

    def decode(self, token_ids, skip_special_tokens=False) -> str:
        return "".join("\ufffd" if token == 19 else chr(65 + token) for token in token_ids)


def test_text_comes_with_the_tokens():
    model = TableModel(20)
    tokens, _ = greedy(model, PROMPT, 6)
    engine = engine_of(model)
    engine.add(request(PROMPT, settings={"max_new_tokens": 6}, decoder=Letters()))
    events = events_of(engine)
    assert [event.text for event in events if isinstance(event, Token)] == [chr(65 + token) for token in tokens]
    assert events[-1].text == ""


def test_what_is_held_back_comes_at_the_end():
    engine = engine_of()
    engine.add(request(PROMPT, settings={"max_new_tokens": 2, "logit_bias": {19: 100.0}}, decoder=Letters()))
    events = events_of(engine)
    assert [event.text for event in events if isinstance(event, Token | Finished)] == ["", "", "\ufffd\ufffd"]


def test_a_stop_string_ends_an_answer_and_stays():
    model = TableModel(20)
    tokens, _ = greedy(model, PROMPT, 8)
    text = Letters().decode(tokens)
    engine = engine_of(model)
    engine.add(request(PROMPT, settings={"max_new_tokens": 8}, decoder=Letters(), stop=("nowhere", text[2:4])))
    events = events_of(engine)
    assert (events[-1].reason, events[-1].token_ids) == ("stop", tokens[:4])
    assert "".join(event.text for event in events if isinstance(event, Token)) == text[:4]


# ---- what is refused


@pytest.mark.parametrize(
    ("prompt", "settings", "error", "message"),
    [
        ([1] * 30, {}, PromptError, "the prompt has 30 tokens and the model's context is 30: shorten it"),
        ([1] * 99, {}, PromptError, "the prompt has 99 tokens and the model's context is 30: shorten it"),
        ([1] * 18, {"max_new_tokens": 4}, PromptError, "takes up to 24 tokens of the cache, which has 20"),
        (
            [1] * 6,
            {"max_new_tokens": 4, "num_beams": 5},
            PromptError,
            "takes up to 44 tokens of the cache, which has 20",
        ),
        (PROMPT, {"eos_token_ids": [20]}, GenerationError, "eos_token_id is 20 but the model knows tokens 0 to 19"),
        (
            PROMPT,
            {"num_return_sequences": 0},
            GenerationError,
            "0 answers of 1 beams were asked for: ask for 1 at least",
        ),
        (PROMPT, {"num_beams": 0}, GenerationError, "1 answers of 0 beams were asked for: ask for 1 at least"),
        (PROMPT, {"num_beams": 9}, GenerationError, "9 answers at a time were asked for: this engine has 8 at most"),
        (PROMPT, {"num_beams": 2, "logit_bias": {1: 2.0}}, GenerationError, "beam search takes no logit_bias"),
        (PROMPT, {"num_beams": 2, "presence_penalty": 1.0}, GenerationError, "beam search takes no logit_bias"),
        ([], {}, PromptError, "the prompt has no tokens"),
    ],
    ids=str,
)
def test_requests_that_cannot_be_carried_out(prompt, settings, error, message):
    engine = engine_of(TableModel(20, context=30), num_blocks=5, max_num_seqs=8)
    with pytest.raises(error, match=message):
        engine.add(request(prompt, settings=settings))
    assert not engine.busy and engine.blocks.available == 5
    assert answer_of(engine, PROMPT, max_new_tokens=3) == greedy(TableModel(20), PROMPT, 3)[0]


def test_stop_strings_without_text_and_with_beams():
    engine = engine_of()
    with pytest.raises(GenerationError, match="stop strings need a decoder"):
        engine.add(request(PROMPT, stop=("a",)))
    with pytest.raises(GenerationError, match="beam search takes no grammar and no stop strings"):
        engine.add(request(PROMPT, settings={"num_beams": 2}, stop=("a",), decoder=Letters()))
    assert not engine.busy


def test_no_more_new_tokens_than_the_context_has_room_for():
    model = TableModel(20, context=9)
    engine = engine_of(model, num_blocks=3)
    assert answer_of(engine, PROMPT, max_new_tokens=100, min_new_tokens=50) == greedy(model, PROMPT, 3)[0]


def test_a_step_tells_of_the_requests_that_are_asked_for():
    model = TableModel(20)
    engine = engine_of(model)
    first, second = (engine.add(request(prompt, settings={"max_new_tokens": 3})) for prompt in (PROMPT, [7, 8]))
    told = [event for _ in range(3) for event in engine.step([second])]
    assert {event.request_id for event in told} == {second} and isinstance(told[-1], Finished)
    assert engine.busy
    told = engine.step([first])
    assert {event.request_id for event in told} == {first} and told[-1].token_ids == greedy(model, PROMPT, 3)[0]
    assert not engine.busy and model.steps == 3


# ---- the end of requests


def test_a_request_is_cancelled():
    model = TableModel(20)
    engine = engine_of(model)
    kept, ended = (engine.add(request(prompt, settings={"max_new_tokens": 5})) for prompt in (PROMPT, [7, 8]))
    for _ in range(2):
        engine.step()
    engine.cancel(ended)
    events = events_of(engine)
    assert isinstance(events[0], Finished)
    assert (events[0].request_id, events[0].reason) == (ended, "cancelled")
    assert events[0].token_ids == greedy(model, [7, 8], 2)[0]
    assert finished(events)[kept, 0].token_ids == greedy(model, PROMPT, 5)[0]
    assert engine.blocks.available == 50


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 3}], ids=str)
def test_before_its_first_token(settings, steps):
    engine = engine_of(max_num_batched_tokens=4)
    number = engine.add(request(PROMPT, settings={"max_new_tokens": 9, **settings}))
    for _ in range(steps):
        engine.step()
    engine.cancel(number)
    events = engine.step()
    answers = settings.get("num_return_sequences", 1)
    assert [(event.request_id, event.index, event.reason, event.token_ids) for event in events] == [
        (number, index, "cancelled", []) for index in range(answers)
    ]
    assert not engine.busy and engine.blocks.available == 50


def test_a_beam_search_that_is_cancelled_has_no_answer():
    engine = engine_of()
    number = engine.add(request(PROMPT, settings={"num_beams": 3, "max_new_tokens": 9}))
    for _ in range(4):
        engine.step()
    engine.cancel(number, 0)
    assert [(event.index, event.reason, event.token_ids) for event in engine.step()] == [(0, "cancelled", [])]
    assert not engine.busy and engine.blocks.available == 50


def test_one_of_several_answers_is_cancelled():
    settings = {"do_sample": True, "num_return_sequences": 3, "max_new_tokens": 6, "seed": 1, "top_k": 0}
    engine = engine_of()
    whole = finished((engine.add(request(PROMPT, settings=settings)), events_of(engine))[1])
    number = engine.add(request(PROMPT, settings=settings))
    engine.step(), engine.step()
    engine.cancel(number, 1)
    found = finished(events_of(engine))
    for index in range(3):
        answer, alone = found[number, index], whole[0, index].token_ids
        assert answer.token_ids == (alone[:2] if index == 1 else alone)
        assert answer.reason == ("cancelled" if index == 1 else "length")
    assert engine.blocks.available == 50


def test_what_cannot_be_cancelled():
    engine = engine_of()
    with pytest.raises(GenerationError, match="request 7 is unknown or has ended: cancel what add returned, once"):
        engine.cancel(7)
    several = engine.add(request(PROMPT, settings={"do_sample": True, "num_return_sequences": 2, "max_new_tokens": 4}))
    beams = engine.add(request(PROMPT, settings={"num_beams": 2, "max_new_tokens": 4}))
    with pytest.raises(GenerationError, match="answer 1 of request 0 has not begun or has ended"):
        engine.cancel(several, 1)
    engine.step()
    for number, index in ((several, 2), (beams, 1)):
        with pytest.raises(GenerationError, match=f"answer {index} of request {number} has not begun or has ended"):
            engine.cancel(number, index)
    engine.cancel(several, 1)
    with pytest.raises(GenerationError, match="answer 1 of request 0 has not begun or has ended"):
        engine.cancel(several, 1)
    assert sorted(finished(events_of(engine))) == [(several, 0), (several, 1), (beams, 0)]
    with pytest.raises(GenerationError, match="request 0 is unknown or has ended"):
        engine.cancel(several)


def test_nothing_is_told_of_what_was_discarded():
    engine = engine_of()
    gone, kept = (engine.add(request(prompt, settings={"max_new_tokens": 3})) for prompt in (PROMPT, [7, 8]))
    engine.step()
    engine.cancel(gone)
    engine.discard(gone)
    engine.discard(gone)
    assert {event.request_id for event in events_of(engine)} == {kept}
    engine.add(request(PROMPT))
    engine.discard(2)
    assert not engine.busy and engine.step() == [] and engine.blocks.available == 50


# ---- many at a time


def test_as_many_at_a_time_as_there_may_be():
    model = TableModel(20)
    engine = engine_of(model, num_blocks=200, max_num_seqs=4)
    settings = {"do_sample": True, "num_return_sequences": 3, "max_new_tokens": 4}
    for token in range(3):
        engine.add(request([token, 1, 2], settings={**settings, "seed": token}))
    engine.add(request([9, 9], settings={"max_new_tokens": 4}))
    assert len(finished(events_of(engine))) == 10 and model.most_rows == 4


def test_blocks_for_one_of_them_are_enough():
    """Three requests of which the cache holds one: the younger ones give their blocks back, and say what they would alone."""
    model = TableModel(20)
    engine = engine_of(model, num_blocks=4)
    prompts = [[token, 1, 2, 3, 4] for token in range(3)]
    numbers = [engine.add(request(prompt, settings={"max_new_tokens": 11})) for prompt in prompts]
    found = finished(events_of(engine))
    for number, prompt in zip(numbers, prompts, strict=True):
        assert found[number, 0].token_ids == greedy(model, prompt, 11)[0]
    assert engine.blocks.available == 4


def test_an_urgent_request_goes_first():
    engine = engine_of(num_blocks=4, max_num_seqs=1)
    for priority in (1, 0, -1):
        engine.add(request(PROMPT, settings={"max_new_tokens": 5}, priority=priority))
    assert [number for number, _ in finished(events_of(engine))] == [2, 1, 0]
