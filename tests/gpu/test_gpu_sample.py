"""Sampling against a literal sort-and-sum in float64."""

import numpy as np
import pytest
from machine import Sampling
from op_definitions import SAMPLING, sample_row


def sample(machine, logits, how, seen=None, penalty=1.0, uniform=None):
    rows, vocabulary = np.shape(logits)
    temperature, top_k, top_p = how
    tokens = machine.empty([rows], "int64")
    machine.run(
        "sample",
        machine.put(logits),
        None if seen is None else machine.put(seen, "bool"),
        Sampling(temperature, top_p, penalty, top_k),
        machine.put(uniform),
        rows,
        vocabulary,
        tokens,
    )
    return tokens.read().tolist()


@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("how", SAMPLING, ids=str)
def test_sample(machine, how, penalised):
    draws = np.random.default_rng(0)
    rows, vocabulary = 6, 3001
    logits = draws.normal(0, 3, (rows, vocabulary)).astype(np.float32)
    uniform = draws.random(rows, dtype=np.float32)
    seen = draws.random((rows, vocabulary)) < 0.3 if penalised else None
    found = sample(machine, logits, how, seen, 1.3, uniform)
    marks = seen if penalised else [None] * rows
    temperature, top_k, top_p = how
    assert found == [sample_row(logits[i], marks[i], temperature, top_k, top_p, 1.3, uniform[i]) for i in range(rows)]


def test_the_ends_of_the_distribution(machine):
    logits = np.array([[-np.inf, 0.0, 0.0, -np.inf]] * 4)
    assert sample(machine, logits, (1, 0, 1), uniform=[0.0, 0.4999, 0.5001, 1 - 2**-24]) == [1, 1, 2, 2]


def test_equal_logits_are_cut_together(machine):
    logits = np.array([[1.0, 3.0, 3.0, 0.0, 3.0]] * 3)
    assert sample(machine, logits, (1, 2, 1), uniform=[0.1, 0.5, 0.9]) == [1, 2, 4]


def test_the_first_of_equals_is_likeliest(machine):
    assert sample(machine, np.array([[-2.0, -1.0, -1.0], [0.0, -0.0, -5.0]]), (0, 0, 1), uniform=[0.5, 0.5]) == [1, 0]


def test_one_token(machine):
    assert sample(machine, [[7.0]], (1, 0, 0.5), uniform=[0.3]) == [0]


def test_nothing_is_possible(machine):
    assert sample(machine, [[-np.inf] * 5, [np.nan] * 5], (1, 2, 0.5), uniform=[0.5, 0.5]) == [0, 0]


def test_a_vocabulary_of_qwen(emulator):
    emulator.choose("first come")
    logits = np.random.default_rng(1).normal(0, 2, (1, 151936)).astype(np.float32)
    found = sample(emulator, logits, (0.8, 40, 0.95), uniform=np.float32([0.6]))
    assert found == [sample_row(logits[0], None, 0.8, 40, 0.95, 1, np.float32(0.6))]
