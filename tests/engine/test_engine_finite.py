"""NaN and infinity among the logits end their request with an error that says what to do; tokens that are ruled out do not."""

import numpy as np
import pytest
from table_model import TableModel, events_of, generate, request

from paddlemix_qwenvl.engine.engine import Engine
from paddlemix_qwenvl.engine.events import Failed, Finished
from paddlemix_qwenvl.errors import GenerationError

PROMPTS = [[1, 2], [3, 4]]


class Spoilt(TableModel):
    """Histories of the second prompt have `value` for one of their logits, from `at` tokens of an answer on."""

    def __init__(self, value: float, at: int, dtype: str = "float32"):
        super().__init__(50, dtype=dtype)
        self.value, self.at = value, at

    def logits(self, history):
        logits = super().logits(history)
        if [*history[:2]] == PROMPTS[1] and len(history) - 2 + 1 >= self.at:
            logits[7] = self.value
        return logits


WAYS = {
    "greedy": {},
    "draws": {"do_sample": True, "seed": 1},
    "beams": {"num_beams": 3},
    "answers": {"do_sample": True, "seed": 1, "num_return_sequences": 3},
}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("at", [1, 2, 5, 9])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_number_ends_its_own_request_at_once(way, at, value):
    model = Spoilt(value, at)
    engine = Engine(model, num_blocks=60, block_size=4)
    sound, spoilt = (engine.add(request(prompt, settings={"max_new_tokens": 12, **WAYS[way]})) for prompt in PROMPTS)
    events = events_of(engine)
    (failed,) = (event for event in events if isinstance(event, Failed))
    assert failed.request_id == spoilt and isinstance(failed.error, GenerationError)
    told = [event for event in events if event.request_id == spoilt]
    assert told[-1] is failed
    answers = WAYS[way].get("num_return_sequences", 1)
    assert len([event for event in told if hasattr(event, "token_id")]) == (0 if way == "beams" else answers * (at - 1))
    finished = [event for event in events if isinstance(event, Finished)]
    assert [event.request_id for event in finished] == [sound] * answers
    assert engine.blocks.available == 60
    alone = Engine(TableModel(50), num_blocks=60, block_size=4)
    alone.add(request(PROMPTS[0], settings={"max_new_tokens": 12, **WAYS[way]}))
    assert [each.token_ids for each in finished] == [
        each.token_ids for each in events_of(alone) if isinstance(each, Finished)
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_raises_it(way):
    with pytest.raises(GenerationError, match=r"NaN or infinity in float32.*doctor --model_path"):
        generate(Spoilt(np.nan, 3), PROMPTS, max_new_tokens=5, **WAYS[way])


@pytest.mark.parametrize("way", WAYS)
def test_tokens_that_are_ruled_out(way):
    settings = {"max_new_tokens": 34, "min_new_tokens": 3, "eos_token_ids": [9], **WAYS[way]}
    ids, scores = generate(Spoilt(-np.inf, 1), PROMPTS, **settings)
    assert 7 not in ids[len(ids) // 2 :] and np.isfinite(scores).all()


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
        generate(Spoilt(np.nan, 1, dtype), PROMPTS, max_new_tokens=1)


def test_a_streamer_is_ended():
    ended = []

    class Streamer:
        def put(self, token_ids):
            ended.append("put")

        def end(self):
            ended.append("end")

    with pytest.raises(GenerationError):
        generate(Spoilt(np.nan, 1), PROMPTS, Streamer())
    assert ended == ["end"]
