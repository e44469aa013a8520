"""Tokens of a sequence that penalties and biases fall on."""

import numpy as np
import pytest

from paddlemix_qwenvl.engine.marks import Marks
from paddlemix_qwenvl.engine.settings import GenerationSettings

PROMPT = np.array([4, 2, 4])


def marks_of(answer=(), **settings) -> tuple[Marks, GenerationSettings]:
    settings = GenerationSettings(**settings)
    marks = Marks.of(settings, PROMPT)
    for token in answer:
        marks.add(token)
    return marks, settings


def as_dict(marks: Marks) -> dict[int, tuple[int, float]]:
    """Count and bias of each token."""
    assert marks.tokens.dtype == marks.counts.dtype == np.int32 and marks.bias.dtype == np.float32
    assert len(set(marks.tokens.tolist())) == marks.tokens.size
    pairs = zip(marks.counts.tolist(), marks.bias.tolist(), strict=True)
    return dict(zip(marks.tokens.tolist(), pairs, strict=True))


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, {}),
        ({"repetition_penalty": 1.5}, {2: (0, 0.0), 4: (0, 0.0), 5: (2, 0.0), 7: (1, 0.0)}),
        ({"presence_penalty": 0.5}, {4: (1, 0.0), 5: (2, 0.0), 7: (1, 0.0)}),
        ({"frequency_penalty": 0.5}, {4: (1, 0.0), 5: (2, 0.0), 7: (1, 0.0)}),
        ({"logit_bias": {5: 2.0, 9: -1.0}}, {5: (-1, 2.0), 9: (-1, -1.0)}),
        (
            {"logit_bias": {5: 2.0, 9: -1.0}, "presence_penalty": 1.0},
            {4: (1, 0.0), 5: (2, 2.0), 7: (1, 0.0), 9: (-1, -1.0)},
        ),
    ],
    ids=str,
)
def test_what_penalties_and_biases_fall_on(settings, wanted):
    marks, _ = marks_of([5, 7, 5, 4] if "repetition_penalty" not in settings else [5, 7, 5], **settings)
    assert as_dict(marks) == wanted


def test_tokens_of_the_prompt_count_from_one_in_the_answer():
    assert as_dict(marks_of([4, 4], repetition_penalty=1.5)[0]) == {2: (0, 0.0), 4: (2, 0.0)}


def test_end_tokens_are_held_back_where_they_come_too_early():
    marks, settings = marks_of(min_new_tokens=2, eos_token_ids=[0, 3], logit_bias={3: 1.0, 6: 2.0})
    assert marks.tokens.tolist() == [0, 3, 6]
    for count in (0, 1):
        assert marks.biases(count, settings).tolist() == [-np.inf, -np.inf, 2.0]
    assert marks.biases(2, settings).tolist() == [0.0, 1.0, 2.0]


def test_copies_grow_by_themselves():
    marks, _ = marks_of([5], presence_penalty=1.0)
    twin = marks.copy()
    twin.add(5), twin.add(6)
    assert as_dict(marks) == {5: (1, 0.0)} and as_dict(twin) == {5: (2, 0.0), 6: (1, 0.0)}
