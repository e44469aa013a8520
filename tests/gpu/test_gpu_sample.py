"""Sampling against a literal sort-and-sum in float64."""

import numpy as np
import pytest
from machine import INVALID_VALUE, TokenMarks
from near import close
from op_definitions import SAMPLING, bit_masks, draw_marks, log_probabilities, sample_row, settings, token_marks

PART = 8192  # tokens of a block


def sample(machine, logits, how, uniform, marks=None, allowed=None, scratch=None):
    """Tokens, whose probabilities are right, too. `how` for each row or for all, `marks` (token, count, bias) of each row, or their
    arrays.
    """
    rows, vocabulary = np.shape(logits)
    tokens, logs, given = machine.empty([rows], "int64"), machine.empty([rows]), None
    logits = machine.put(logits)
    if marks is not None:
        arrays = token_marks(marks) if isinstance(marks, list) else marks
        arrays = [machine.put(x, str(x.dtype)) for x in arrays]
        given = TokenMarks(*(x.pointer for x in arrays), arrays[1].shape[0])
    scratch = scratch or machine.empty([machine.status("sample_scratch", given, rows, vocabulary)], "uint8")
    machine.run(
        "sample",
        logits,
        machine.put(np.broadcast_to(how, (rows, 7))),
        machine.put(np.broadcast_to(uniform, rows)),
        given,
        None if allowed is None else machine.put(bit_masks(allowed), "int32"),
        rows,
        vocabulary,
        scratch,
        tokens,
        logs,
    )
    found = tokens.read()
    with np.errstate(invalid="ignore"):
        close(logs, log_probabilities(logits.read(), found))
    return found.tolist()


@pytest.mark.parametrize("given", [False, True], ids=["bare", "marks and masks"])
@pytest.mark.parametrize("vocabulary", [3001, 2 * PART + 77])
def test_each_row_by_its_own_settings(machine, vocabulary, given):
    draws, how = np.random.default_rng(0), np.stack([*SAMPLING.values()])
    rows = len(how)
    logits = draws.normal(0, 3, (rows, vocabulary)).astype(np.float32)
    uniform = draws.random(rows, dtype=np.float32)
    marks = [draw_marks(draws, vocabulary, 900 * (row % 4 > 0)) for row in range(rows)]
    allowed = draws.random((rows, vocabulary)) < 0.7
    allowed[5] = False
    wanted = [
        sample_row(logits[i], how[i], uniform[i], *((marks[i], allowed[i]) if given else ())) for i in range(rows)
    ]
    assert sample(machine, logits, how, uniform, *((marks, allowed) if given else ())) == wanted


@pytest.mark.parametrize("vocabulary", [1, 32, 33, 2050])
def test_masks_of_any_vocabulary(machine, vocabulary):
    """The bits after the last token are nobody's."""
    tokens = np.array([0, vocabulary // 2, vocabulary - 1])
    logits = np.random.default_rng(1).normal(size=(3, vocabulary))
    allowed = np.arange(vocabulary) == tokens[:, None]
    for how in (settings(0), settings(0.5, top_p=0.1)):
        assert sample(machine, logits, how, 0.5, allowed=allowed) == tokens.tolist()
        free = sample(machine, logits, how, 0.5)
        assert sample(machine, logits, how, 0.5, allowed=np.zeros_like(allowed)) == free


def test_one_of_those_allowed_is_drawn_even_if_none_is_possible(machine):
    allowed = np.zeros((3, 70), bool)
    allowed[:, [5, 68]] = True
    for logits, marks in ((-np.inf, None), (0, [[(token, -1, -np.inf) for token in range(70)]] * 3)):
        logits = np.full((3, 70), logits)
        assert sample(machine, logits, settings(0), 0, marks, allowed) == [5] * 3
        assert sample(machine, logits, settings(), [0, 0.4, 0.6], marks, allowed) == [5, 5, 68]


def test_marks_outside_of_the_vocabulary_are_left_out(machine):
    marks = (
        np.int32([-5, 1, 4]),
        np.int32([2, 9, -1, 1]),
        np.int32([-1, -1, -1, -1]),
        np.float32([5, 9, 9, 7]),
    )
    for size in (3, 4):  # the second row's marks end before its offset says
        arrays = marks[0], *(x[:size] for x in marks[1:])
        assert sample(machine, np.zeros((2, 4)), settings(0), 0, arrays) == [2, 1 if size == 4 else 0]


def test_the_ends_of_the_distribution(machine):
    logits = np.array([[-np.inf, 0.0, 0.0, -np.inf]] * 4)
    assert sample(machine, logits, settings(), [0.0, 0.4999, 0.5001, 1 - 2**-24]) == [1, 1, 2, 2]


def test_equal_logits_are_cut_together(machine):
    logits = np.array([[1.0, 3.0, 3.0, 0.0, 3.0]] * 3)
    for how in (settings(top_k=2), settings(top_p=0.5), settings(min_p=1), settings(top_p=0)):
        assert sample(machine, logits, how, [0.1, 0.5, 0.9]) == [1, 2, 4]


def test_the_first_of_equals_is_likeliest(machine):
    logits = np.array([[-2.0, -1.0, -1.0], [0.0, -0.0, -5.0], [-0.0, 0.0, -5.0]])
    assert sample(machine, logits, settings(0), 0.5) == [1, 0, 0]


@pytest.mark.parametrize("how", [settings(1e-6, 50), settings(1e-40)])
def test_tiny_temperatures_take_the_likeliest(machine, how):
    logits = np.random.default_rng(2).normal(20, 5, (8, 500)).astype(np.float32)
    assert sample(machine, logits, how, 0.99) == logits.argmax(-1).tolist()


def test_one_token(machine):
    assert sample(machine, [[7.0]], settings(top_p=0.5), 0.3) == [0]


def test_nothing_is_possible(machine):
    assert sample(machine, [[-np.inf] * 5, [np.nan] * 5], settings(1, 2, 0.5), 0.5) == [0, 0]


def spread(*tokens, size=3 * PART - 50, rest=-np.inf):
    """A row of a logit of 2 for some tokens, and `rest` for the others."""
    return np.where(np.isin(np.arange(size), tokens), 2, rest)


FAR = [3, PART - 1, PART, 2 * PART + 9]  # two neighbours, and no part without a token


@pytest.mark.parametrize("rest", [-np.inf, 0])
def test_the_first_of_equals_in_several_parts_is_likeliest(machine, rest):
    logits = [spread(*FAR, rest=rest), spread(*FAR[1:], rest=rest), spread(*FAR[2:], rest=rest)]
    assert sample(machine, logits, settings(0), 0) == FAR[:3]
    allowed = spread(*FAR[2:]) > 0
    assert sample(machine, logits, settings(0), 0, allowed=np.stack([allowed] * 3)) == [PART] * 3


@pytest.mark.parametrize("how", [settings(), settings(top_k=4), settings(top_p=0.99), settings(0.5, 4, 0.9, 0.5)])
def test_a_draw_from_each_part(machine, how):
    """Each takes a quarter, and the ends of quarters are the next one's."""
    uniform, quarters = [0, 0.2499, 0.25, 0.5, 0.75, 1 - 2**-24], [0, 0, 1, 2, 3, 3]
    assert sample(machine, np.stack([spread(*FAR)] * 6), how, uniform) == [FAR[i] for i in quarters]


def test_parts_without_a_token_that_is_allowed(machine):
    logits = np.random.default_rng(4).normal(size=(3, 3 * PART))
    for tokens in ([5, 7], [2 * PART, 3 * PART - 1], [5, 3 * PART - 1]):
        allowed = np.stack([spread(*tokens, size=3 * PART) > 0] * 3)
        weights = np.exp(logits[:, tokens])
        later = weights[:, 0] / weights.sum(-1) < 0.5
        assert sample(machine, logits, settings(), 0.5, allowed=allowed) == [tokens[i] for i in later.astype(int)]


def test_cuts_through_several_parts(machine):
    """Two equals in different parts are the third likeliest; what top-k leaves out counts no more for top-p."""
    logits = np.full(3 * PART, -np.inf)
    logits[[2 * PART + 9, 3, PART, 2 * PART, PART - 1]] = [3, 2, 1, 1, 0]
    hows = [settings(top_k=2), settings(top_k=3), settings(top_p=0.83), settings(1, 3, 0.83), settings(1, 3, 0.86)]
    for uniform in (0.2, 0.28, 0.4):
        wanted = [sample_row(logits, how, np.float32(uniform)) for how in hows]
        assert sample(machine, np.stack([logits] * 5), np.stack(hows), uniform) == wanted


def test_top_k_of_more_than_are_possible(machine):
    """After a row whose cut was higher."""
    logits = np.full((2, 40), -np.inf)
    logits[:, [5, 9]] = [[0, -1], [0, -5]]
    for top_p in (1, 0.9999):
        assert sample(machine, logits, [settings(top_k=2, top_p=0.5), settings(1, 3, top_p)], 0.999) == [5, 9]


def test_scratch_may_hold_anything(machine):
    """Rows of other settings and logits were there before."""
    how = np.stack([settings(), settings(0), settings(0.9, 30), settings(1.2, 40, 0.8)])
    draws = np.random.default_rng(5)
    logits, uniform = draws.normal(0, 3, (4, PART + 500)).astype(np.float32), draws.random(4, dtype=np.float32)
    scratch = machine.empty([machine.status("sample_scratch", None, *logits.shape)], "uint8")
    for turn in range(4):
        rows = np.roll(np.arange(4), turn)
        wanted = [sample_row(logits[i], how[row], uniform[i]) for row, i in enumerate(rows)]
        assert sample(machine, logits[rows], how, uniform[rows], scratch=scratch) == wanted


def test_the_largest_vocabulary(emulator):
    emulator.choose("first come")
    size = 1 << 19
    assert sample(emulator, [spread(100, size - 1, size=size)], settings(0.7, 2, 0.9), 0.6) == [size - 1]
    assert emulator.status("sample", *[None] * 5, 1, size + 1, *[None] * 3) == INVALID_VALUE


def test_a_vocabulary_of_qwen(emulator):
    emulator.choose("first come")
    draws, how = np.random.default_rng(3), settings(0.8, 40, 0.95, repetition_penalty=1.1)
    logits, marks = draws.normal(0, 2, (1, 151936)).astype(np.float32), draw_marks(draws, 151936, 500)
    found = sample(emulator, logits, how, 0.6, [marks])
    assert found == [sample_row(logits[0], how, np.float32(0.6), marks)]
