"""What an engine computes once: the beginnings of prompts, pictures and videos."""

import numpy as np
import pytest
from table_model import (
    TableModel,
    answer_of,
    engine_of,
    events_of,
    finished,
    greedy,
    history_of,
    picture,
    plain_prompt,
    request,
)

from paddlemix_qwenvl.engine.events import Failed
from paddlemix_qwenvl.errors import PromptError

PROMPT = [1, 2, 3, 4, 5, 6]


def test_what_a_prompt_begins_with_is_computed_once():
    model = TableModel(20)
    engine = engine_of(model)
    answer = answer_of(engine, PROMPT, max_new_tokens=5)
    before = model.tokens_computed
    turn = [*PROMPT, *answer, 7, 8, 9]
    engine.add(request(turn, settings={"max_new_tokens": 1}))
    last = events_of(engine)[-1]
    assert last.token_ids == greedy(model, turn, 1)[0]
    assert (last.cached_tokens, last.prompt_tokens) == (8, 14)
    assert model.tokens_computed - before == 14 - 8


def test_it_is_shared_while_it_is_used():
    model = TableModel(20)
    engine = engine_of(model)
    for end in range(3):
        engine.add(request([*PROMPT, 7, 8, end], settings={"max_new_tokens": 2}))
    found = finished(events_of(engine))
    assert [found[number, 0].cached_tokens for number in range(3)] == [0, 8, 8]
    assert model.tokens_computed == 9 + 1 + 1 + 3


def test_it_is_forgotten_where_that_is_asked_for():
    model = TableModel(20)
    engine = engine_of(model)
    answer_of(engine, PROMPT, [picture(1, [2, 3])], max_new_tokens=3)
    engine.forget()
    before = model.tokens_computed
    answer_of(engine, PROMPT, [picture(1, [2, 3])], max_new_tokens=1)
    assert model.tokens_computed - before == 6 and model.encoded == 2
    assert engine.blocks.available == 50


def test_nothing_is_kept_without_a_prefix_cache():
    model = TableModel(20)
    engine = engine_of(model, prefix_cache=False)
    for _ in range(2):
        answer_of(engine, PROMPT, max_new_tokens=1)
    assert model.tokens_computed == 12


@pytest.mark.parametrize("change", ["position", "ntk", "token"])
def test_another_position_base_or_token_is_another_beginning(change):
    model = TableModel(20)
    engine = engine_of(model)
    answer_of(engine, [*PROMPT, 7, 8, 9], max_new_tokens=1)
    again = request([*PROMPT, 7, 8, 9] if change != "token" else [*PROMPT, 9, 8, 9], settings={"max_new_tokens": 1})
    if change == "position":
        object.__setattr__(again.prompt, "position_ids", again.prompt.position_ids + (np.arange(9) > 4))
    if change == "ntk":
        object.__setattr__(again.prompt, "ntk_alpha", 2.0)
    engine.add(again)
    assert events_of(engine)[-1].cached_tokens == {"position": 4, "ntk": 0, "token": 4}[change]


def test_what_is_remembered_is_shared_within_a_salt_alone():
    model = TableModel(20)
    engine = engine_of(model)
    found = []
    for salt in (b"a", b"b", b"", b"a"):
        engine.add(request([*PROMPT, 7, 8, 9], [picture(1, [2, 3])], {"max_new_tokens": 1}, cache_salt=salt))
        found.append((events_of(engine)[-1].cached_tokens, model.encoded))
    assert found == [(0, 1), (0, 2), (0, 3), (8, 3)]


# ---- pictures


def picture_turns(*contents: int) -> tuple[list[int], list]:
    """A prompt of three tokens and a picture of three each."""
    ids = [1, 2, 3, 0, 0, 0] * len(contents)
    return ids, [picture(content, range(6 * i + 3, 6 * i + 6)) for i, content in enumerate(contents)]


def test_a_picture_is_encoded_once():
    model = TableModel(20)
    engine = engine_of(model)
    for contents, encoded in (((1,), 1), ((1, 2), 2), ((1, 2), 2), ((1, 2, 1), 2)):
        ids, media = picture_turns(*contents)
        wanted = greedy(model, history_of(plain_prompt(ids, media)), 4)[0]
        assert answer_of(engine, ids, media, max_new_tokens=4) == wanted
        assert model.encoded == encoded


def test_a_picture_that_has_changed_is_computed_anew():
    model = TableModel(20)
    engine = engine_of(model)
    for contents, cached in (((1, 2), 0), ((1, 3), 8), ((4, 2), 0), ((1, 2), 8)):
        ids, media = picture_turns(*contents)
        before = model.tokens_computed
        engine.add(request(ids, media, {"max_new_tokens": 4}))
        last = events_of(engine)[-1]
        assert last.token_ids == greedy(model, history_of(plain_prompt(ids, media)), 4)[0]
        assert last.cached_tokens == cached and model.tokens_computed - before == 12 - cached + 3
    assert model.encoded == 4


def test_features_are_kept_as_far_as_they_may_be():
    model = TableModel(20)
    engine = engine_of(model, prefix_cache=False, encoder_cache_bytes=2 * 3 * 8)  # of two pictures
    for content in (1, 2, 1, 3, 2):
        ids, media = picture_turns(content)
        assert (
            answer_of(engine, ids, media, max_new_tokens=1) == greedy(model, history_of(plain_prompt(ids, media)), 1)[0]
        )
    assert model.encoded == 4


@pytest.mark.parametrize("contents", [(1, 2, 3), (1, 2, 1, 2), (1, 1, 2), (2, 1, 1)], ids=str)
def test_beside_answers_pictures_are_encoded_one_at_a_time(contents):
    model = TableModel(20)
    engine = engine_of(model)
    engine.add(request([9, 9], settings={"max_new_tokens": 20}))
    engine.step(), engine.step()
    ids, media = picture_turns(*contents)
    number = engine.add(request(ids, media, {"max_new_tokens": 4}))
    found, events = [], []
    while engine.busy:
        before = model.encoded
        events += engine.step()
        found.append(model.encoded - before)
    assert max(found) == 1 and sum(found) == len(set(contents))
    assert finished(events)[number, 0].token_ids == greedy(model, history_of(plain_prompt(ids, media)), 4)[0]


def test_a_picture_that_cannot_be_encoded_ends_its_own_request():
    class Blind(TableModel):
        def encode(self, media):
            if any(each.key == picture(2, []).key for each in media):
                raise PromptError("no such picture")
            return super().encode(media)

    engine = engine_of(Blind(20))
    numbers = [engine.add(request(*picture_turns(content), {"max_new_tokens": 3})) for content in (1, 2, 3)]
    events = events_of(engine)
    (failed,) = (event for event in events if isinstance(event, Failed))
    assert failed.request_id == numbers[1] and str(failed.error) == "no such picture"
    assert sorted(finished(events)) == [(numbers[0], 0), (numbers[2], 0)]
    assert engine.blocks.available == 50
