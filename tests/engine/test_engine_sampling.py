"""One token a row by settings of its own: how often each is drawn, and that rows do not see each other."""

from dataclasses import replace

import numpy as np
import paddle
import pytest
from table_model import TableModel, plain_prompt

from paddlemix_qwenvl.engine.sampling import Row, draw, likeliest, rows_of
from paddlemix_qwenvl.engine.sequence import Request, Sequence
from paddlemix_qwenvl.engine.settings import GenerationSettings

MODEL = TableModel(8, seed=5, scale=1.0)
PROMPT = [1, 2]


def sequence_of(answer=(), index: int = 0, **settings) -> Sequence:
    """A sequence of the prompt and the first tokens of its answer."""
    request = Request(plain_prompt(PROMPT), GenerationSettings(max_new_tokens=32, **settings))
    sequence = Sequence(request, (0, 0, index), seed=1, index=index)
    for token in answer:
        sequence.append(token, 0.0)
    return sequence


def probabilities(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0, logit_bias=()) -> np.ndarray:
    logits = MODEL.logits(PROMPT).astype(np.float64)
    for token, bias in dict(logit_bias).items():
        logits[token] += bias
    for token in PROMPT:
        logits[token] = logits[token] / repetition_penalty if logits[token] > 0 else logits[token] * repetition_penalty
    logits /= temperature
    order = np.argsort(-logits)
    kept = order[: top_k or len(order)]
    share = np.exp(logits[kept] - logits.max())
    share /= share.sum()
    before = np.cumsum(share) - share
    chosen = (before < top_p) & (share >= min_p * share.max())
    found = np.zeros(len(logits))
    found[kept[chosen]] = share[chosen] / share[chosen].sum()
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 0},
        {"top_k": 0, "temperature": 0.5},
        {"top_k": 0, "temperature": 3.0},
        {"top_k": 3},
        {"top_k": 0, "top_p": 0.7},
        {"top_k": 0, "min_p": 0.3},
        {"top_k": 4, "top_p": 0.8, "temperature": 2.0},
        {"top_k": 0, "repetition_penalty": 2.0},
        {"top_k": 0, "logit_bias": {0: 1.5, 3: -2.0}},
        {"top_k": 100, "top_p": 1e-6},
    ],
    ids=str,
)
def test_draws_follow_the_distribution(settings):
    """4 000 answers to one prompt, of which each has draws of its own."""
    rows = [row for index in range(4000) for row in rows_of(sequence_of(index=index, do_sample=True, **settings), [])]
    tokens, _ = draw(paddle.to_tensor(np.tile(MODEL.logits(PROMPT), [4000, 1])), rows)
    found = np.bincount(tokens, minlength=MODEL.vocab) / 4000
    wanted = probabilities(**settings)
    assert (found[wanted == 0] == 0).all()
    assert np.abs(found - wanted).max() < 4 * np.sqrt(0.25 / 4000)


def test_log_probabilities_are_those_before_all_settings():
    settings = {"do_sample": True, "temperature": 0.5, "top_k": 2, "repetition_penalty": 3.0, "logit_bias": {4: 9.0}}
    tokens, scores = draw(paddle.to_tensor(MODEL.logits(PROMPT)[None]), rows_of(sequence_of(**settings), []))
    assert tokens.tolist() == [4]
    assert scores[0] == pytest.approx(MODEL.log_probabilities(PROMPT)[4], abs=1e-5)


def test_the_likeliest_tokens_are_told_where_they_are_asked_for():
    rows = [rows_of(sequence_of(temperature=0.5, do_sample=True), [])[0] for _ in range(3)]
    rows = [replace(row, top=top) for row, top in zip(rows, (0, 2, 99), strict=True)]
    nothing, two, every = likeliest(paddle.to_tensor(np.tile(MODEL.logits(PROMPT), [3, 1])), rows)
    wanted = MODEL.log_probabilities(PROMPT)
    assert nothing == () and two == every[:2] and len(every) == MODEL.vocab
    assert [token for token, _ in every] == np.argsort(-wanted, kind="stable").tolist()
    assert [score for _, score in every] == pytest.approx(np.sort(wanted)[::-1], abs=1e-5)


KINDS = [
    {},
    {"do_sample": True, "top_k": 0, "temperature": 2.0},
    {"repetition_penalty": 1.5, "min_new_tokens": 5, "eos_token_ids": [0, 3]},
    {"do_sample": True, "presence_penalty": 1.0, "frequency_penalty": 0.5, "top_k": 0},
    {"logit_bias": {6: 4.0, 1: -1.0}},
]


def test_a_row_is_drawn_as_if_it_were_alone():
    rows = [row for settings in KINDS for row in rows_of(sequence_of([4, 4, 2], **settings), [])]
    logits = np.stack([MODEL.logits([*PROMPT, place]) for place in range(len(rows))])
    tokens, scores = draw(paddle.to_tensor(logits), rows)
    alone = [draw(paddle.to_tensor(logits[place : place + 1]), [row]) for place, row in enumerate(rows)]
    assert tokens.tolist() == [int(each[0][0]) for each in alone]
    np.testing.assert_allclose(scores, [each[1][0] for each in alone], rtol=1e-6)


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_rows_of_a_draft_are_those_that_follow_one_by_one(settings):
    drafts, sequence = [5, 4, 5], sequence_of([4], **settings)
    rows = rows_of(sequence, drafts)
    assert sequence.new_ids.tolist() == [4]
    for row, draft in zip(rows, [*drafts, None], strict=True):
        (one,) = rows_of(sequence, [])
        assert (row.uniform, row.new_tokens) == (one.uniform, one.new_tokens)
        for name in ("tokens", "counts", "bias"):
            np.testing.assert_array_equal(getattr(row.marks, name), getattr(one.marks, name))
        if draft is not None:
            sequence.append(draft, 0.0)


def test_masks_of_some_rows_leave_the_others_free():
    logits = np.tile(MODEL.logits(PROMPT), [2, 1])
    likeliest = int(logits[0].argmax())
    (row,) = rows_of(sequence_of(), [])
    masked = Row(row.settings, row.uniform, row.marks, row.new_tokens, np.array([1 << 7 | 1 << 5], np.int32))
    tokens, _ = draw(paddle.to_tensor(logits), [row, masked])
    assert tokens.tolist() == [likeliest, max((5, 7), key=lambda token: logits[0, token])]
    assert likeliest not in (5, 7)


def test_logits_that_are_no_numbers_show_in_the_scores():
    (row,) = rows_of(sequence_of(), [])
    logits = np.tile(MODEL.logits(PROMPT), [3, 1])
    logits[0, 3], logits[1, 3], logits[2, 3] = np.nan, np.inf, -np.inf
    _, scores = draw(paddle.to_tensor(logits), [row] * 3)
    assert np.isfinite(scores).tolist() == [False, False, True]
