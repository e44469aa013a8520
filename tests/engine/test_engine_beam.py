"""Beam search against the best of all continuations, and against a literal search."""

from itertools import product

import numpy as np
import pytest
from table_model import PAD, TableModel, generate

from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.errors import GenerationError

PROMPTS = [[1, 2], [3, 1]]


def search(model: TableModel, **settings):
    return generate(model, PROMPTS, **settings)


def best_of_all(model: TableModel, prompt, count: int, eos: tuple, length_penalty: float, min_new: int = 0):
    """Every answer of up to `count` tokens, scored as PaddleNLP scores: sum / ((tokens before the end + 5) / 6) ** penalty."""
    best = (-np.inf, None)
    for tokens in product(range(model.vocab), repeat=count):
        total, answer = 0.0, []
        for i, token in enumerate(tokens):
            log = model.log_probabilities([*prompt, *answer])
            if i < min_new:
                logits = model.logits([*prompt, *answer]).astype(np.float64)
                logits[list(eos)] = -np.inf
                log = logits - np.log(np.exp(logits).sum())
            total += log[token]
            if token in eos:
                break
            answer.append(token)
        ended = len(answer) < count
        score = total / ((len(answer) + 5) / 6) ** length_penalty
        if score > best[0]:
            best = (score, [*answer, tokens[len(answer)]] if ended else answer)
    return best


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("eos", [(), (0,)], ids=str)
def test_enough_beams_find_the_best_of_all(seed, length_penalty, eos):
    model = TableModel(4, seed)
    settings = {"num_beams": 64, "max_new_tokens": 4, "eos_token_ids": list(eos), "length_penalty": length_penalty}
    ids, scores = search(model, **settings)
    rows = [best_of_all(model, prompt, 4, eos, length_penalty) for prompt in PROMPTS]
    longest = max(len(tokens) for _, tokens in rows)
    assert ids.tolist() == [tokens + [PAD] * (longest - len(tokens)) for _, tokens in rows]
    np.testing.assert_allclose(scores[:, 0], [score for score, _ in rows], atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_any_end_token_ends_a_beam(seed):
    model, eos = TableModel(4, seed), (0, 2)
    ids, scores = search(model, num_beams=64, max_new_tokens=4, eos_token_ids=list(eos), length_penalty=1.0)
    for prompt, tokens, score in zip(PROMPTS, ids.tolist(), scores[:, 0], strict=True):
        wanted, best = best_of_all(model, prompt, 4, eos, 1.0)
        assert score == pytest.approx(wanted, abs=1e-4)
        length = len(best) - 1 if best[-1] in eos else len(best)
        assert tokens[:length] == best[:length]
        assert all(token in (*eos, PAD) for token in tokens[length:])


@pytest.mark.parametrize("seed", range(3))
def test_no_end_before_the_minimum(seed):
    model = TableModel(4, seed)
    ids, _ = search(model, num_beams=64, max_new_tokens=4, min_new_tokens=2, eos_token_ids=[0])
    rows = [best_of_all(model, prompt, 4, (0,), 1.0, min_new=2) for prompt in PROMPTS]
    for tokens, (_, best) in zip(ids.tolist(), rows, strict=True):
        assert tokens[: len(best)] == best and 0 not in tokens[:2]


def literal_beams(model: TableModel, prompt, beams: int, count: int, penalty: float = 1.0) -> tuple[list[int], float]:
    """Beam search without an end token; `penalty` multiplies the log-probability of what has been said."""

    def step(tokens):
        history = [*prompt, *tokens]
        return model.log_probabilities(history) * np.where(np.isin(range(model.vocab), history), penalty, 1.0)

    alive = [(0.0, [])]
    for _ in range(count):
        grown = [(score + log, [*tokens, token]) for score, tokens in alive for token, log in enumerate(step(tokens))]
        alive = sorted(grown, key=lambda beam: -beam[0])[:beams]
    score, tokens = alive[0]
    return tokens, score / ((count + 5) / 6)


@pytest.mark.parametrize("beams", [2, 3, 5])
@pytest.mark.parametrize("penalty", [1.0, 1.5])
@pytest.mark.parametrize("seed", range(3))
def test_few_beams_search_as_beam_search_does(beams, seed, penalty):
    model = TableModel(11, seed)
    ids, scores = search(model, num_beams=beams, max_new_tokens=7, repetition_penalty=penalty)
    for prompt, tokens, score in zip(PROMPTS, ids.tolist(), scores[:, 0], strict=True):
        wanted, total = literal_beams(model, prompt, beams, 7, penalty)
        assert tokens == wanted and score == pytest.approx(total, abs=1e-4)


def test_beams_and_draws_exclude_each_other():
    with pytest.raises(GenerationError, match="do_sample is true and num_beams is 2, which exclude each other"):
        GenerationSettings(num_beams=2, do_sample=True)
