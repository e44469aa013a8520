"""NaN and infinity among the logits are errors that say what to do; tokens that are ruled out are not."""

import numpy as np
import paddle
import pytest
from table_model import TableModel

from paddlemix_qwenvl.engine.beam import beam_search
from paddlemix_qwenvl.engine.decode import generate_tokens
from paddlemix_qwenvl.engine.finite import STEPS
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.errors import GenerationError

PROMPTS = [[1, 2], [3, 4]]


class Spoilt(TableModel):
    """One logit of the second row is `value` from the step on that makes the answer's token number `at`."""

    def __init__(self, value: float, at: int, dtype: str = "float32"):
        super().__init__(50)
        self.value, self.at, self.dtype = value, at, dtype

    def step(self, prompts):
        step = super().step(prompts)
        step.dtype = self.dtype
        return step

    def _stack(self, rows):
        logits = np.stack([self.logits(row) for row in rows])
        if len(rows[0]) - len(PROMPTS[0]) + 1 >= self.at:
            logits[len(rows) // 2 :, 7] = self.value
        return paddle.to_tensor(logits)


def answer(model, **settings):
    settings = GenerationSettings(**settings)
    search = beam_search if settings.num_beams > 1 else generate_tokens
    return search(model.step(PROMPTS), paddle.to_tensor(PROMPTS), settings)


WAYS = {"greedy": {}, "draws": {"do_sample": True, "seed": 1}, "beams": {"num_beams": 3}}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("at", [1, 2, 5, STEPS + 3])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_number(way, at, value):
    with pytest.raises(GenerationError, match=r"NaN or infinity in float32.*doctor --model_path"):
        answer(Spoilt(value, at), max_new_tokens=STEPS + 5, **WAYS[way])


def test_it_is_found_after_the_prefill_and_every_so_often():
    for at, decoded in ((1, 0), (2, STEPS), (STEPS, STEPS)):
        model = Spoilt(np.nan, at)
        with pytest.raises(GenerationError):
            answer(model, max_new_tokens=10 * STEPS)
        assert model.decoded == decoded


def test_it_is_found_in_a_row_that_has_ended_since():
    """Later steps of the others are sound."""
    model = Spoilt(np.nan, 1)
    sound = TableModel(50)
    step = model.step(PROMPTS)
    step.logits = sound.step(PROMPTS).logits
    calls = []

    def decode(token_ids, cache):
        calls.append(1)
        return (model if len(calls) == 1 else sound)._decode(token_ids, cache)

    step.decode = decode
    with pytest.raises(GenerationError):
        generate_tokens(step, paddle.to_tensor(PROMPTS), GenerationSettings(max_new_tokens=6))
    assert len(calls) == 5


@pytest.mark.parametrize("way", WAYS)
def test_tokens_that_are_ruled_out(way):
    plain = answer(Spoilt(-np.inf, 1), max_new_tokens=STEPS + 2, min_new_tokens=3, eos_token_ids=[9], **WAYS[way])
    assert 7 not in plain.token_ids.numpy()[1]


@pytest.mark.parametrize(
    ("dtype", "remedy"),
    [
        ("float16", 'overflows in float16 does not with dtype="bfloat16" or dtype="float32"'),
        ("bfloat16", 'overflows in bfloat16 does not with dtype="float32"'),
        ("float32", "float32 is the widest there is"),
    ],
)
def test_the_way_out(dtype, remedy):
    with pytest.raises(GenerationError, match=f"NaN or infinity in {dtype}.*{remedy}"):
        answer(Spoilt(np.nan, 1, dtype), max_new_tokens=1)


def test_a_streamer_is_ended():
    ended = []

    class Streamer:
        def put(self, token_ids):
            ended.append("put")

        def end(self):
            ended.append("end")

    model = Spoilt(np.nan, 1)
    with pytest.raises(GenerationError):
        generate_tokens(model.step(PROMPTS), paddle.to_tensor(PROMPTS), GenerationSettings(), streamer=Streamer())
    assert ended == ["end"]
