"""Sampling against a literal sort-and-sum in float64."""

import numpy as np
import paddle
import pytest
from numpy_ops import float64, tensor
from op_definitions import (
    SAMPLING,
    bit_masks,
    draw_marks,
    log_probabilities,
    sample_row,
    sampling_weights,
    settings,
    token_marks,
)
from ways import PLAIN_ONLY, Way

from paddlemix_qwenvl.ops.marks import SETTINGS, TokenMarks

ROWS, VOCABULARY = 48, 1003  # no multiple of 32


def sample(way, logits, how, uniform, marks=None, allowed=None) -> list[int]:
    """Tokens of NumPy's `logits` [B, V]; `how` for each row or for all, `marks` (token, count, bias) of each row."""
    rows = len(logits)
    how, uniform = (np.broadcast_to(x, shape).astype(np.float32) for x, shape in ((how, (rows, 7)), (uniform, rows)))
    given = None if marks is None else TokenMarks(*map(paddle.to_tensor, token_marks(marks)))
    masks = None if allowed is None else paddle.to_tensor(bit_masks(np.asarray(allowed)))
    found, logs = way.sample(tensor(logits), paddle.to_tensor(how), paddle.to_tensor(uniform), given, masks)
    assert (found.dtype, logs.dtype) == (paddle.int64, paddle.float32)
    wide = float64(tensor(logits))
    with np.errstate(invalid="ignore"):
        wanted = log_probabilities(wide, found.numpy())
    rounding = 2e-6 * (1 + np.abs(wide[np.isfinite(wide)]).max(initial=0))  # of the logits themselves
    rounding += 2**-24 * wide.shape[1] * (way.name == "plain")  # Paddle sums one after the other
    np.testing.assert_allclose(logs.numpy(), wanted, atol=rounding, rtol=1e-6)
    return found.tolist()


def inputs(seed, marked, masked, rows=ROWS):
    """Logits, uniforms, marks and masks; some rows have no mark, and one allows nothing."""
    draws = np.random.default_rng(seed)
    logits = draws.normal(0, 3, (rows, VOCABULARY)).astype(np.float32)
    marks = [draw_marks(draws, VOCABULARY, draws.integers(0, 400) * (row % 5 > 0)) for row in range(rows)]
    allowed = draws.random((rows, VOCABULARY)) < draws.random((rows, 1))
    allowed[2] = False
    return logits, draws.random(rows, dtype=np.float32), marks if marked else None, allowed if masked else None


def alone(logits, how, uniform, marks, allowed, row):
    """What the definition gives for one row."""
    own = () if marks is None else marks[row], None if allowed is None else allowed[row]
    return sample_row(logits[row], how, uniform[row], *own)


def test_settings_have_names():
    assert len(SETTINGS) == settings().size
    for place, name in enumerate(SETTINGS):
        assert np.flatnonzero(settings(**{name: 9}) != settings()).tolist() == [place]


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("marked", [False, True], ids=["bare", "marked"])
@pytest.mark.parametrize("how", SAMPLING.values(), ids=SAMPLING)
def test_sample(way, how, marked, masked):
    logits, uniform, marks, allowed = inputs(0, marked, masked)
    wanted = [alone(logits, how, uniform, marks, allowed, row) for row in range(ROWS)]
    assert sample(way, logits, how, uniform, marks, allowed) == wanted


@pytest.mark.parametrize("marked, masked", [(True, True), (False, False)])
def test_each_row_gives_what_it_gives_alone(way, marked, masked):
    how = np.stack([*SAMPLING.values()] * 3)
    logits, uniform, marks, allowed = inputs(1, marked, masked, len(how))
    together = sample(way, logits, how, uniform, marks, allowed)
    for row, token in enumerate(together):
        here = slice(row, row + 1)
        parts = [None if x is None else x[here] for x in (marks, allowed)]
        assert sample(way, logits[here], how[here], uniform[here], *parts) == [token]
        assert alone(logits, how[row], uniform, marks, allowed, row) == token


@pytest.mark.parametrize("how", [SAMPLING["all"], SAMPLING["greedy with penalties"]], ids=["all", "greedy"])
def test_narrow_logits(way, how):
    logits, uniform, marks, allowed = inputs(2, True, True)
    narrow = tensor(logits, "bfloat16")
    given = TokenMarks(*map(paddle.to_tensor, token_marks(marks)))
    row_settings = paddle.to_tensor(np.tile(how, (ROWS, 1)))
    found = way.sample(narrow, row_settings, paddle.to_tensor(uniform), given, paddle.to_tensor(bit_masks(allowed)))
    assert found[0].tolist() == sample(way, narrow.astype("float32").numpy(), how, uniform, marks, allowed)


def test_what_each_mark_does(way):
    """A token of the answer, one of the prompt alone, one that is in neither; the bias comes first."""
    logits = np.array([[1.0, 1.0, 1.0, 0.9, -1.0]])
    how = settings(0, repetition_penalty=2, presence_penalty=0.3, frequency_penalty=0.1)
    order, left = [], logits.copy()
    marks = [(0, 3, 0.0), (1, 0, 0.0), (2, -1, -0.05), (4, 1, 2.2)]  # -0.1, 0.5, 0.95, 0.2
    for _ in range(5):
        (token,) = sample(way, left, how, 0, [marks])
        order.append(token)
        left[0, token] = -np.inf
    assert order == [2, 3, 1, 4, 0]
    assert sample(way, logits, how, 0, [[(0, 0, 1.0), (2, -1, 0.2)]]) == [2]  # (1 + 1) / 2 is less than 1.2


def test_marks_of_no_token(way):
    logits, uniform, _, _ = inputs(3, False, False)
    assert sample(way, logits, settings(), uniform, [[]] * ROWS) == sample(way, logits, settings(), uniform)


@pytest.mark.parametrize("vocabulary", [1, 31, 32, 33, 100, 2050])
def test_masks_of_any_vocabulary(way, vocabulary):
    """Each token by a mask of its own, by the likeliest and by a draw; the bits after the last token are nobody's."""
    tokens = np.unique([*range(min(vocabulary, 40)), vocabulary - 2, vocabulary - 1] % np.int64(vocabulary))
    logits = np.random.default_rng(4).normal(size=(tokens.size, vocabulary))
    allowed = np.arange(vocabulary) == tokens[:, None]
    for how in (settings(0), settings(0.5, top_p=0.1), settings(repetition_penalty=2)):
        assert sample(way, logits, how, 0.5, allowed=allowed) == tokens.tolist()
        free = sample(way, logits, how, 0.5)
        assert sample(way, logits, how, 0.5, allowed=np.zeros_like(allowed)) == free
        assert sample(way, logits, how, 0.5, allowed=np.ones_like(allowed)) == free


def test_one_of_those_allowed_is_drawn_even_if_none_is_possible(way):
    logits = np.full((3, 70), -np.inf)
    allowed = np.zeros((3, 70), bool)
    allowed[:, [5, 68]] = True
    assert sample(way, logits, settings(0), 0, allowed=allowed) == [5] * 3
    assert sample(way, logits, settings(), [0, 0.4, 0.6], allowed=allowed) == [5, 5, 68]
    banned = [[(token, -1, -np.inf) for token in range(70)]] * 3
    assert sample(way, np.zeros((3, 70)), settings(), [0, 0.4, 0.6], banned, allowed) == [5, 5, 68]
    assert sample(way, logits, settings(), [0, 0.4, 0.6]) == [0] * 3


@pytest.mark.parametrize("how", [settings(1e-6, 50), settings(1e-6, 0, 0.8), settings(1e-40), settings(1e-38, 3, 0.5)])
def test_tiny_temperatures_take_the_likeliest(way, how):
    logits = np.random.default_rng(5).normal(20, 5, (200, 500)).astype(np.float32)
    assert sample(way, logits, how, 0.99) == logits.argmax(-1).tolist()


def test_near_logits_keep_their_distance_at_tiny_temperatures(way):
    """20 and the next float32, two temperatures apart."""
    logits, how = np.array([[20, np.nextafter(np.float32(20), np.float32(21))]]), settings(1e-6)
    share = 1 / (1 + np.exp((logits[0, 1] - 20) / np.float32(1e-6)))
    assert 0.1 < share < 0.2
    found = sample(way, logits.repeat(2, 0), how, [share - 0.01, share + 0.01])
    assert found == [0, 1]


def test_one_token_that_is_not_banned(way):
    logits = np.random.default_rng(6).normal(size=(1, 300))
    marks = [[(token, -1, -np.inf) for token in range(300) if token != 123]]
    for how in (*SAMPLING.values(), settings(5)):
        assert sample(way, logits, how, 0.999, marks) == [123]


def test_of_equals_the_first_is_likeliest_and_none_is_cut_alone(way):
    logits = np.zeros((5, 5003))
    for row, tokens in enumerate([(4, 5), (1023, 1024), (1024, 5002), (5001, 5002)]):
        logits[row, tokens] = 7
    logits[4] = np.where(np.arange(5003) < 2, [-0.0] * 5003, 0)
    assert sample(way, logits, settings(0), 0.9) == [4, 1023, 1024, 5001, 0]
    equal = np.array([[1.0, 3.0, 3.0, 0.0, 3.0]] * 3)
    for how in (settings(top_k=2), settings(top_p=0.5), settings(min_p=1), settings(top_p=0)):
        assert sample(way, equal, how, [0.1, 0.5, 0.9]) == [1, 2, 4]


def test_the_ends_of_the_distribution(way):
    logits = [[-np.inf, 0.0, 0.0, -np.inf]] * 4
    assert sample(way, logits, settings(), [0.0, 0.4999, 0.5001, 1 - 2**-24]) == [1, 1, 2, 2]


@pytest.mark.parametrize("name", ["as they are", "top-k", "top-p", "min-p", "all"])
def test_draws_follow_the_probabilities(way, name):
    """Chi-square of 100 000 draws: five standard deviations above its mean would be chance once in a million."""
    draws = np.random.default_rng(7)
    logits, marks = draws.normal(0, 1, 40), draw_marks(draws, 40, 20)
    allowed = draws.random(40) < 0.8
    weights = sampling_weights(logits.astype(np.float32), SAMPLING[name], marks, allowed)
    how, uniform = SAMPLING[name], draws.random(100_000, dtype=np.float32)
    found = sample_many(way, logits, how, uniform, marks, allowed)
    counts, expected = np.bincount(found, minlength=40), weights / weights.sum() * uniform.size
    assert (counts[expected == 0] == 0).all()
    possible = expected > 0
    chi_square = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    freedom = possible.sum() - 1
    assert freedom >= 4 and chi_square < freedom + 5 * np.sqrt(2 * freedom)


def sample_many(way, logits, how, uniform, marks, allowed):
    """One row's tokens for many uniforms."""
    rows = uniform.size
    offsets, tokens, counts, bias = token_marks([marks])
    given = TokenMarks(
        paddle.arange(rows + 1, dtype="int32") * int(offsets[1]),
        *(paddle.to_tensor(np.tile(x, rows)) for x in (tokens, counts, bias)),
    )
    masks = paddle.to_tensor(np.tile(bit_masks(allowed[None]), (rows, 1)))
    wide = tensor(np.tile(logits, (rows, 1)))
    return way.sample(wide, paddle.to_tensor(np.tile(how, (rows, 1))), paddle.to_tensor(uniform), given, masks)[
        0
    ].numpy()


@pytest.mark.parametrize("batch, vocabulary", [(1, 1), (1, 5), (3, 1000), (2, 5001)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_log_probabilities(way, batch, vocabulary, dtype):
    """Of tokens that are drawn for their marks alone, which do not count here."""
    draws = np.random.default_rng(0)
    logits = tensor(draws.normal(0, 5, (batch, vocabulary)), dtype)
    logits[0, 1:3] = -np.inf  # as the end token's is where more tokens are asked for
    token_ids = draws.integers(0, vocabulary, batch)
    token_ids[0] = 0
    marks = TokenMarks(*map(paddle.to_tensor, token_marks([[(int(token), -1, 99.0)] for token in token_ids])))
    how = paddle.to_tensor(np.tile(settings(0.5), (batch, 1)))
    found, logs = way.sample(logits, how, paddle.full([batch], 0.5), marks)
    assert found.tolist() == token_ids.tolist()
    np.testing.assert_allclose(logs.numpy(), log_probabilities(float64(logits), token_ids), atol=2e-6, rtol=1e-6)


GOOD = {
    "logits": np.zeros((2, 40), np.float32),
    "settings": np.stack([settings()] * 2),
    "uniform": np.zeros(2, np.float32),
    "offsets": np.int32([0, 1, 2]),
    "tokens": np.int32([3, 39]),
    "counts": np.int32([1, 1]),
    "bias": np.float32([0, 0]),
    "allowed": np.int32([[-1, -1]] * 2),
}

if not PLAIN_ONLY:

    @pytest.mark.parametrize(
        "name, value, message",
        [
            ("logits", np.zeros(40), r"logits are \[B, V\], not \[40\]"),
            ("logits", np.zeros((2, 0)), "logits have no columns"),
            ("settings", GOOD["settings"][:1], r"settings has shape \[1, 7\], expected \[2, 7\]"),
            ("settings", GOOD["settings"][:, :4], r"settings has shape \[2, 4\], expected \[2, 7\]"),
            ("settings", np.ones((2, 7)), "settings has dtype float64, expected float32"),
            ("uniform", np.float32([0]), r"uniform has shape \[1\], expected \[2\]"),
            ("uniform", np.zeros(2), "uniform has dtype float64, expected float32"),
            ("offsets", np.int32([0, 2]), r"offsets has shape \[2\], expected \[3\]"),
            ("offsets", np.int64([0, 1, 2]), "offsets has dtype int64, expected int32"),
            ("offsets", np.int32([0, 3, 2]), "offsets must rise from 0 to 2, the number of tokens"),
            ("offsets", np.int32([1, 1, 2]), "offsets must rise from 0 to 2"),
            ("offsets", np.int32([0, 1, 1]), "offsets must rise from 0 to 2"),
            ("tokens", np.int32([3, 40]), "token 40 is not among 40"),
            ("tokens", np.int32([-1, 3]), "token -1 is not among 40"),
            ("tokens", np.int64([3, 39]), "tokens has dtype int64, expected int32"),
            ("counts", np.int32([1]), r"counts has shape \[1\], expected \[2\]"),
            ("bias", np.zeros(2), "bias has dtype float64, expected float32"),
            ("bias", np.zeros(0, np.float32), "offsets, tokens, counts and bias go together"),
            ("allowed", np.int32([[-1]] * 2), r"allowed has shape \[2, 1\], expected \[2, 2\]"),
            ("allowed", np.int64([[-1, -1]] * 2), "allowed has dtype int64, expected int32"),
        ],
    )
    def test_bad_values_are_refused(name, value, message):
        logits, how, uniform, *marks, allowed = (paddle.to_tensor(x) for x in {**GOOD, name: value}.values())
        with pytest.raises((RuntimeError, ValueError, OSError), match=message):
            Way("compiled").sample(logits, how, uniform, TokenMarks(*marks), allowed)
