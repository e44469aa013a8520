"""Sampling against a literal sort-and-sum in float64."""

import numpy as np
import paddle
import pytest
from numpy_ops import float64, tensor
from op_definitions import SAMPLING, sample_row

ROWS, VOCABULARY = 64, 1000


@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("temperature, top_k, top_p", SAMPLING)
def test_sample(way, temperature, top_k, top_p, penalised):
    draws = np.random.default_rng(0)
    logits = draws.normal(0, 3, (ROWS, VOCABULARY)).astype(np.float32)
    uniform = draws.random(ROWS, dtype=np.float32)
    seen = draws.random((ROWS, VOCABULARY)) < 0.3 if penalised else None
    found = way.sample(
        paddle.to_tensor(logits),
        None if seen is None else paddle.to_tensor(seen),
        temperature,
        top_k,
        top_p,
        1.3,
        paddle.to_tensor(uniform),
    )
    assert found.dtype == paddle.int64
    wanted = [
        sample_row(logits[i], seen[i] if penalised else None, temperature, top_k, top_p, 1.3, uniform[i])
        for i in range(ROWS)
    ]
    assert found.tolist() == wanted


@pytest.mark.parametrize(
    "settings", [(1, 0, 1, 1), (0.7, 50, 0.9, 1.3), (1, 5000, 0.5, 0.8), (0, 0, 1, 1.3), (1, 1, 1, 1)]
)
def test_settings_as_a_tensor_are_the_same_settings(way, settings):
    temperature, top_k, top_p, penalty = settings
    draws = np.random.default_rng(1)
    logits, seen = (
        tensor(draws.normal(0, 3, (ROWS, VOCABULARY))),
        paddle.to_tensor(draws.random((ROWS, VOCABULARY)) < 0.3),
    )
    uniform = tensor(draws.random(ROWS))
    expected = way.sample(logits, seen, temperature, top_k, top_p, penalty, uniform)
    assert way.sample_with_settings(logits, seen, tensor(settings), uniform).tolist() == expected.tolist()


def test_counts_mark_seen_tokens_too(way):
    logits, seen = tensor([[2.0, 1.9, -1.0]]), paddle.to_tensor([[3, 0, 0]])
    assert way.sample(logits, seen, 0.0, 0, 1.0, 1.5, tensor([0.0])).tolist() == [1]


def test_the_ends_of_the_distribution(way):
    logits = tensor([[-np.inf, 0.0, 0.0, -np.inf]] * 4)
    uniform = tensor([0.0, 0.4999, 0.5001, 1 - 2**-24])
    assert way.sample(logits, None, 1.0, 0, 1.0, 1.0, uniform).tolist() == [1, 1, 2, 2]


def test_draws_follow_the_probabilities(way):
    logits = np.log(np.array([0.5, 0.25, 0.125, 0.0625, 0.0625]))
    uniform = (np.arange(1600) + 0.5) / 1600
    found = way.sample(tensor(np.tile(logits, (1600, 1))), None, 1.0, 0, 1.0, 1.0, tensor(uniform))
    assert np.bincount(found.numpy()).tolist() == [800, 400, 200, 100, 100]
    found = way.sample(tensor(np.tile(logits, (1600, 1))), None, 1.0, 0, 0.75, 1.0, tensor(uniform))
    assert set(found.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("batch, vocabulary", [(1, 1), (1, 5), (3, 1000), (2, 5001)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_log_probability(way, batch, vocabulary, dtype):
    draws = np.random.default_rng(0)
    logits = tensor(draws.normal(0, 5, (batch, vocabulary)), dtype)
    logits[0, 1:3] = -np.inf  # as the end token's is where more tokens are asked for
    token_ids = draws.integers(0, vocabulary, batch)
    token_ids[0] = 0
    wide = float64(logits)
    wanted = wide[np.arange(batch), token_ids] - np.logaddexp.reduce(wide, axis=-1)
    found = way.log_probability(logits, paddle.to_tensor(token_ids))
    assert found.dtype == paddle.float32
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-6, rtol=1e-6)
