"""Pictures that are encoded beside running answers, a few layers at a time."""

import numpy as np
import paddle
import pytest
from table_model import TableModel, engine_of, events_of, finished, greedy, history_of, picture, plain_prompt, request

from paddlemix_qwenvl.engine.events import Finished, Token
from paddlemix_qwenvl.engine.pace import Pace
from paddlemix_qwenvl.engine.runner import ModelRunner
from paddlemix_qwenvl.models.prompts import Media

IDS, PLACES = [1, 2, 3, 0, 0, 0, 4], range(3, 6)


class Slow(TableModel):
    """Tells of each piece that it encodes."""

    pieces = 5

    def __init__(self):
        super().__init__(20)
        self.done = 0

    def encoding(self, media):
        for features in super().encoding(media):
            self.done += 1
            yield features


@pytest.fixture
def spare(monkeypatch):
    """Sets the seconds that a step may take for pictures."""
    return lambda seconds: monkeypatch.setattr(Pace, "spare", seconds)


def answering(model, **options):
    """An engine in which an answer is being written, and its request's number."""
    engine = engine_of(model, **options)
    number = engine.add(request([9, 9], settings={"max_new_tokens": 40}))
    engine.step(), engine.step()
    return engine, number


def asked(engine, *contents, ids=IDS):
    """A request each about a picture of its own."""
    return [engine.add(request(ids, [picture(content, PLACES)], {"max_new_tokens": 4})) for content in contents]


def alone(model, content: int) -> list[int]:
    return greedy(model, history_of(plain_prompt(IDS, [picture(content, PLACES)])), 4)[0]


def test_the_running_answer_gets_a_token_after_every_piece(spare):
    spare(1e-9)
    model = Slow()
    engine, running = answering(model)
    (number,) = asked(engine, 1)
    tokens, events = [], []
    while not any(isinstance(event, Finished) for event in events):
        before, told = model.done, engine.step()
        events += told
        tokens.append((model.done - before, sum(isinstance(e, Token) and e.request_id == running for e in told)))
    assert [step for step in tokens if step[0]] == [(1, 1)] * 5 and {told for _, told in tokens} == {1}
    assert finished(events)[number, 0].token_ids == alone(model, 1) and model.encoded == 1
    events = events_of(engine)
    assert finished(events)[running, 0].token_ids == greedy(model, [9, 9], 40)[0]
    assert engine.blocks.available == engine.blocks.num_blocks


def test_as_many_pieces_as_there_is_time_for(spare):
    spare(1e9)
    model = Slow()
    engine, _ = answering(model)
    numbers, steps = asked(engine, 1, 2), []
    while engine.waiting or model.done < 10:
        before = model.done
        engine.step()
        steps.append(model.done - before)
    assert [done for done in steps if done] == [5, 5]
    found = finished(events_of(engine))
    assert [found[number, 0].token_ids for number in numbers] == [alone(model, 1), alone(model, 2)]


def test_one_picture_after_the_other_and_each_once(spare):
    """The second request has the first one's picture."""
    spare(1e-9)
    model = Slow()
    engine, _ = answering(model)
    numbers = asked(engine, 1, 1, 2)
    found = finished(events_of(engine))
    assert [found[number, 0].token_ids for number in numbers] == [alone(model, content) for content in (1, 1, 2)]
    assert (model.done, model.encoded) == (10, 2)


def test_a_prompt_before_it_goes_first_and_one_behind_it_waits(spare):
    spare(1e-9)
    model = Slow()
    engine, _ = answering(model)
    texts = [[5, 6, 7], [8, 6, 7]]
    before = engine.add(request(texts[0], settings={"max_new_tokens": 2}))
    (number,) = asked(engine, 1)
    behind = engine.add(request(texts[1], settings={"max_new_tokens": 2}))
    events, first = [], {}
    while not {before, number, behind} <= first.keys():
        told = engine.step()
        for event in told:
            if isinstance(event, Token):
                first.setdefault(event.request_id, model.done)
        events += told
    assert [first[each] for each in (before, number, behind)] == [0, 5, 5]
    found = finished(events + events_of(engine))
    assert [found[each, 0].token_ids for each in (before, behind)] == [greedy(model, text, 2)[0] for text in texts]
    assert found[number, 0].token_ids == alone(model, 1)


def test_requests_that_come_together_spare_nobody(spare):
    spare(1e-9)
    model = Slow()
    engine = engine_of(model)
    numbers = asked(engine, 1, 2, 3)
    found = finished(events_of(engine))
    assert [found[number, 0].token_ids for number in numbers] == [alone(model, content) for content in (1, 2, 3)]
    assert (model.done, model.encoded) == (0, 3)


def test_what_was_begun_goes_with_its_request(spare):
    spare(1e-9)
    model = Slow()
    engine, _ = answering(model)
    (number,) = asked(engine, 1)
    while model.done < 2:
        engine.step()
    engine.cancel(number)
    events = engine.step()
    assert finished(events)[number, 0].reason == "cancelled" and not [*engine._encoder._begun]
    (number,) = asked(engine, 1)
    assert finished(events_of(engine))[number, 0].token_ids == alone(model, 1)
    assert (model.done, model.encoded) == (2 + 5, 1)


def test_without_answers_the_rest_is_encoded_in_one_go(spare):
    """The running answer ends while the picture is begun."""
    spare(1e-9)
    model = Slow()
    engine, running = answering(model)
    (number,) = asked(engine, 1)
    while model.done < 2:
        engine.step()
    engine.cancel(running)
    assert finished(events_of(engine))[number, 0].token_ids == alone(model, 1)
    assert model.encoded == 1


def test_layers_are_computed_without_gradients_and_beside_others(model):
    runner, patch = ModelRunner(model), model.config.vision_config.patch_dim
    draws, media = np.random.default_rng(0), []
    for rows, columns in ((4, 6), (2, 4)):
        pixels = draws.standard_normal([rows * columns, patch]).astype(np.float32)
        inputs = {"pixel_values": pixels, "grid_thw": np.array([[1, rows, columns]])}
        media.append(Media(b"", inputs, np.arange(rows * columns // 4)))
    wanted = [runner.encode([each])[0].numpy() for each in media]
    both = [runner.encoding(each) for each in media]
    for _ in range(2 * model.config.vision_config.depth):
        assert [next(each) for each in both] == [None, None] and paddle.is_grad_enabled()
    for found, expected in zip(map(next, both), wanted, strict=True):
        assert found.stop_gradient and (found.numpy() == expected).all()
