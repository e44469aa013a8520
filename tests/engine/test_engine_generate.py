"""Batches of prompts on a model that is a table, against plain loops over it."""

import threading

import numpy as np
import paddle
import pytest
from table_model import PAD, Repeating, TableModel, engine_of, generate, greedy, request

from paddlemix_qwenvl.engine.generate import answer_batch

PROMPTS = [[1, 2, 3], [4, 5, 6]]
EOS = 0


def answers(model, prompts=PROMPTS, streamer=None, criteria=(), **settings) -> list[list[int]]:
    return generate(model, prompts, streamer, criteria, **settings)[0].tolist()


def assert_rows(answer, rows: list[tuple[list[int], float]]) -> None:
    ids, scores = answer
    longest = max(len(tokens) for tokens, _ in rows)
    assert ids.tolist() == [tokens + [PAD] * (longest - len(tokens)) for tokens, _ in rows]
    assert ids.dtype == np.int64 and scores.dtype == np.float32 and scores.shape == (len(rows), 1)
    np.testing.assert_allclose(scores[:, 0], [score for _, score in rows], atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_greedy_takes_the_likeliest(seed):
    model = TableModel(20, seed)
    assert_rows(generate(model, PROMPTS, max_new_tokens=6), [greedy(model, prompt, 6) for prompt in PROMPTS])
    assert model.steps == 6  # the last token's logits are not asked for


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("eos", [(EOS,), (EOS, 3, 7)], ids=str)
def test_rows_end_at_any_end_token_and_are_padded(seed, eos):
    model = TableModel(8, seed)
    rows = [greedy(model, prompt, 12, eos) for prompt in PROMPTS]
    assert_rows(generate(model, PROMPTS, max_new_tokens=12, eos_token_ids=list(eos)), rows)
    assert model.steps == max(len(tokens) for tokens, _ in rows)


def test_the_rows_above_did_end_apart():
    lengths = {
        tuple(len(greedy(TableModel(8, seed), prompt, 12, (EOS, 3, 7))[0]) for prompt in PROMPTS) for seed in range(6)
    }
    assert any(one != other for one, other in lengths) and max(max(pair) for pair in lengths) < 12


@pytest.mark.parametrize("min_new", [0, 1, 3, 8])
@pytest.mark.parametrize("seed", range(3))
def test_no_end_before_the_minimum(min_new, seed):
    model = TableModel(7, seed)
    rows = [greedy(model, prompt, 8, (EOS, 1), min_new) for prompt in PROMPTS]
    assert min(len(tokens) for tokens, _ in rows) >= min_new
    assert_rows(generate(model, PROMPTS, max_new_tokens=8, min_new_tokens=min_new, eos_token_ids=[EOS, 1]), rows)


@pytest.mark.parametrize("penalty", [1.05, 1.5, 3.0, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_repetition_penalty(penalty, seed):
    model = TableModel(10, seed)
    rows = [greedy(model, prompt, 8, penalty=penalty) for prompt in PROMPTS]
    assert_rows(generate(model, PROMPTS, max_new_tokens=8, repetition_penalty=penalty), rows)
    if penalty == 3.0:
        assert rows != [greedy(model, prompt, 8) for prompt in PROMPTS]


def test_one_token_takes_one_step():
    model = TableModel(10)
    assert generate(model, PROMPTS, max_new_tokens=1)[0].shape == (2, 1) and model.steps == 1


# ---- draws


def test_a_seed_decides_the_answer():
    model = TableModel(50)
    runs = [answers(model, seed=seed, max_new_tokens=10, do_sample=True, top_k=0) for seed in (1, 5, 1)]
    assert runs[0] == runs[2] != runs[1]
    assert runs[0][0] != runs[0][1]


def test_without_a_seed_paddles_own_decides():
    model, runs = TableModel(50), []
    settings = {"max_new_tokens": 10, "do_sample": True, "top_k": 0}
    for seed in (3, 3, 4):
        paddle.seed(seed)
        runs.append(answers(model, **settings))
    again = answers(model, **settings)
    assert runs[0] == runs[1] != runs[2] and again != runs[2]


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_k": 1}, {"temperature": 1e-6, "top_k": 0}], ids=str)
def test_draws_without_a_choice_are_greedy(settings):
    model = TableModel(20)
    found = answers(model, max_new_tokens=5, do_sample=True, seed=0, **settings)
    assert found == [greedy(model, prompt, 5)[0] for prompt in PROMPTS]


def test_scores_of_draws_are_those_of_the_whole_distribution():
    model = TableModel(6)
    ids, scores = generate(model, PROMPTS, max_new_tokens=3, do_sample=True, top_k=2, temperature=2.0, seed=4)
    for prompt, tokens, score in zip(PROMPTS, ids.tolist(), scores[:, 0], strict=True):
        steps = [model.log_probabilities([*prompt, *tokens[:i]])[token] for i, token in enumerate(tokens)]
        assert score == pytest.approx(np.mean(steps), abs=1e-5)


def test_each_prompt_has_its_answers_one_after_the_other():
    model = TableModel(20)
    settings = {"max_new_tokens": 6, "do_sample": True, "top_k": 0, "seed": 1}
    rows = answers(model, **settings, num_return_sequences=3)
    assert len(rows) == 6 and len(set(map(tuple, rows))) == 6
    assert rows[::3] == answers(model, **settings)  # the first draws as if there were no others
    assert rows[3:] == answers(model, PROMPTS[1:], **settings | {"seed": 2}, num_return_sequences=3)


# ---- streaming and stopping


class Listener:
    def __init__(self):
        self.heard, self.ended = [], 0

    def put(self, token_ids) -> None:
        self.heard.append(np.asarray(token_ids).tolist())

    def end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("settings", [{}, {"do_sample": True, "num_return_sequences": 2, "seed": 1}], ids=str)
def test_the_streamer_hears_every_token_once(settings):
    listener = Listener()
    found = answers(TableModel(8, 2), streamer=listener, max_new_tokens=9, eos_token_ids=[EOS, 3], **settings)
    assert np.array(listener.heard).T.tolist() == found and listener.ended == 1


def test_the_streamer_is_told_of_an_end_by_error():
    class Failing(TableModel):
        def step(self, inputs, features):
            if self.steps:
                raise RuntimeError("lost the device")
            return super().step(inputs, features)

    listener = Listener()
    with pytest.raises(RuntimeError, match="lost the device"):
        generate(Failing(8), PROMPTS, listener, max_new_tokens=3)
    assert listener.ended == 1 and len(listener.heard) == 1


def test_a_streamer_that_fails_leaves_nothing_behind():
    class Broken:
        def put(self, token_ids):
            raise BrokenPipeError

        def end(self):
            raise BrokenPipeError

    engine = engine_of()
    with pytest.raises(BrokenPipeError):
        answer_batch(engine, [request(PROMPTS[0])], np.array(PROMPTS[:1]), Broken())
    assert not engine.busy and engine.blocks.available == engine.blocks.num_blocks


def test_criteria_see_everything_and_end_the_answer():
    seen = []

    def third(token_ids, scores):
        seen.append((token_ids.tolist(), scores.shape))
        return token_ids.shape[1] == 3 + 3

    def never(token_ids, scores):
        return False

    model = TableModel(20)
    found = answers(model, max_new_tokens=9, criteria=[never, third])
    rows = [greedy(model, prompt, 3)[0] for prompt in PROMPTS]
    assert found == rows
    assert seen == [
        ([prompt + row[:count] for prompt, row in zip(PROMPTS, rows, strict=True)], [2, 1]) for count in (1, 2, 3)
    ]


def test_criteria_see_mean_log_probabilities():
    model, means = TableModel(20), []
    generate(model, PROMPTS, max_new_tokens=3, criteria=[lambda ids, scores: means.append(scores.numpy()) or False])
    wanted = [[[greedy(model, prompt, count)[1]] for prompt in PROMPTS] for count in (1, 2, 3)]
    np.testing.assert_allclose(means, wanted, atol=1e-5)


def test_a_criterion_ends_single_rows():
    """Row 1 after two tokens, row 0 after five, row 2 not at all."""
    prompts = [*PROMPTS, [7, 8, 1]]

    def short_enough(token_ids, scores):
        return np.array([token_ids.shape[1] >= 3 + 5, token_ids.shape[1] >= 3 + 2, False])

    model = TableModel(20)
    answer = generate(model, prompts, max_new_tokens=7, criteria=[short_enough])
    counts = (5, 2, 7)
    assert_rows(answer, [greedy(model, prompt, count) for prompt, count in zip(prompts, counts, strict=True)])
    # A row's last token is not computed, nor anything after it.
    assert model.tokens_computed == sum(map(len, prompts)) + sum(counts) - 3


@pytest.mark.parametrize("penalty", [1.0, 1.5])
@pytest.mark.parametrize("seed", range(4))
def test_rows_that_have_ended_leave_the_batch(seed, penalty):
    prompts, eos = np.random.default_rng(seed).integers(1, 8, [7, 4]).tolist(), (EOS, 3)
    model = TableModel(8, seed)
    answer = generate(model, prompts, max_new_tokens=20, eos_token_ids=list(eos), repetition_penalty=penalty)
    rows = [greedy(model, prompt, 20, eos, penalty=penalty) for prompt in prompts]
    assert_rows(answer, rows)
    assert model.tokens_computed == 7 * 4 + sum(len(tokens) - 1 for tokens, _ in rows)


def test_a_rows_draws_do_not_depend_on_when_others_end():
    settings = {"max_new_tokens": 8, "do_sample": True, "top_k": 0, "seed": 1}
    free = answers(TableModel(20), **settings)
    first = free[0][1]
    ended = answers(TableModel(20), **settings, eos_token_ids=[first])
    assert ended[0] == [*free[0][:2], *[PAD] * (len(ended[0]) - 2)]
    stop = free[1].index(first) + 1 if first in free[1] else 8
    assert ended[1] == free[1][:stop] and stop > 2


def test_an_answer_is_cancelled_between_tokens():
    cancelled, listener = threading.Event(), Listener()

    def cancel_after_three(token_ids):
        Listener.put(listener, token_ids)
        if len(listener.heard) == 3:
            cancelled.set()

    listener.put = cancel_after_three
    model = TableModel(20)
    found = answers(model, streamer=listener, max_new_tokens=9, criteria=[lambda *_: cancelled.is_set()])
    assert found == [greedy(model, prompt, 3)[0] for prompt in PROMPTS]
    assert model.steps == 3 and listener.ended == 1


def test_pad_token_may_be_an_end_token():
    model = TableModel(8, 1)
    found = answers(model, max_new_tokens=12, eos_token_ids=[EOS, 3, 7], pad_token_id=3)
    lengths = [len(greedy(model, prompt, 12, (EOS, 3, 7))[0]) for prompt in PROMPTS]
    for row, length in zip(found, lengths, strict=True):
        assert row[length:] == [3] * (max(lengths) - length)


# ---- several tokens a step

LOOKUP = {"max_new_tokens": 16, "prompt_lookup_num_tokens": 3}


def test_rows_that_run_ahead_are_streamed_together():
    model, listener = Repeating(7, seed=1), Listener()
    found = answers(model, streamer=listener, **LOOKUP)
    assert found == [greedy(model, prompt, 16)[0] for prompt in PROMPTS]
    assert model.steps < 12
    assert np.array(listener.heard).T.tolist() == found


def test_what_a_row_has_beyond_a_criterion_is_taken_off():
    def short_enough(token_ids, scores):
        return np.array([token_ids.shape[1] >= 3 + 9, token_ids.shape[1] >= 3 + 11])

    model = Repeating(7, seed=1)
    answer = generate(model, PROMPTS, criteria=[short_enough], **LOOKUP)
    assert_rows(answer, [greedy(model, prompt, count) for prompt, count in zip(PROMPTS, (9, 11), strict=True)])
    assert model.steps < 9
