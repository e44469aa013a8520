"""The decode loop on a model that is a table, against plain loops over it."""

import threading

import numpy as np
import paddle
import pytest
from table_model import TableModel

from paddlemix_qwenvl.engine.decode import generate_tokens
from paddlemix_qwenvl.engine.settings import GenerationSettings

PROMPTS = [[1, 2, 3], [4, 5, 6]]
EOS, PAD = 0, 9


def generate(model: TableModel, prompts=PROMPTS, streamer=None, stopping_criteria=(), **settings):
    settings = GenerationSettings(**{"pad_token_id": PAD, **settings})
    return generate_tokens(model.step(prompts), paddle.to_tensor(prompts), settings, streamer, stopping_criteria)


def greedy(model, prompt, count, eos=(), min_new=0, penalty=1.0) -> tuple[list[int], float]:
    """One row, literally: its tokens up to an end token, and their mean log-probability."""
    history, scores = list(prompt), []
    for step in range(count):
        logits = model.logits(history).astype(np.float64)
        if step < min_new:
            logits[list(eos)] = -np.inf
        total = np.log(np.exp(logits - logits.max()).sum()) + logits.max()
        penalised = logits.copy()
        for token in set(history):
            penalised[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
        token = int(penalised.argmax())
        scores.append(logits[token] - total)
        history.append(token)
        if token in eos:
            break
    return history[len(prompt) :], float(np.mean(scores))


def assert_rows(answer, rows: list[tuple[list[int], float]]) -> None:
    longest = max(len(tokens) for tokens, _ in rows)
    assert answer.token_ids.tolist() == [tokens + [PAD] * (longest - len(tokens)) for tokens, _ in rows]
    assert answer.token_ids.dtype == paddle.int64 and answer.scores.shape == [len(rows), 1]
    np.testing.assert_allclose(answer.scores.numpy()[:, 0], [score for _, score in rows], atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_greedy_takes_the_likeliest(seed):
    model = TableModel(20, seed)
    assert_rows(generate(model, max_new_tokens=6), [greedy(model, prompt, 6) for prompt in PROMPTS])
    assert model.decoded == 5  # the last token's logits are not asked for


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("eos", [(EOS,), (EOS, 3, 7)], ids=str)
def test_rows_end_at_any_end_token_and_are_padded(seed, eos):
    model = TableModel(8, seed)
    rows = [greedy(model, prompt, 12, eos) for prompt in PROMPTS]
    assert_rows(generate(model, max_new_tokens=12, eos_token_ids=list(eos)), rows)
    assert model.decoded == max(len(tokens) for tokens, _ in rows) - 1


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
    assert_rows(generate(model, max_new_tokens=8, min_new_tokens=min_new, eos_token_ids=[EOS, 1]), rows)


@pytest.mark.parametrize("penalty", [1.05, 1.5, 3.0, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_repetition_penalty(penalty, seed):
    model = TableModel(10, seed)
    rows = [greedy(model, prompt, 8, penalty=penalty) for prompt in PROMPTS]
    assert_rows(generate(model, max_new_tokens=8, repetition_penalty=penalty), rows)
    if penalty == 3.0:
        assert rows != [greedy(model, prompt, 8) for prompt in PROMPTS]


def test_one_token_needs_no_decoding():
    model = TableModel(10)
    assert generate(model, max_new_tokens=1).token_ids.shape == [2, 1] and model.decoded == 0


# ---- sampling


def frequencies(model, **settings) -> np.ndarray:
    """Shares of each token among the first tokens of 4 000 equal rows."""
    answer = generate(model, [[1, 2]] * 4000, max_new_tokens=1, do_sample=True, seed=1, **settings)
    return np.bincount(answer.token_ids.numpy()[:, 0], minlength=model.vocab) / 4000


def probabilities(model, temperature=1.0, top_k=0, top_p=1.0, penalty=1.0) -> np.ndarray:
    logits = model.logits([1, 2]).astype(np.float64)
    for token in (1, 2):
        logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    logits /= temperature
    order = np.argsort(-logits)
    kept = order[: top_k or len(order)]
    share = np.exp(logits[kept] - logits.max())
    share /= share.sum()
    before = np.cumsum(share) - share
    kept, share = kept[before < top_p], share[before < top_p]
    found = np.zeros(len(logits))
    found[kept] = share / share.sum()
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 0},
        {"top_k": 0, "temperature": 0.5},
        {"top_k": 0, "temperature": 3.0},
        {"top_k": 3},
        {"top_k": 0, "top_p": 0.7},
        {"top_k": 4, "top_p": 0.8, "temperature": 2.0},
        {"top_k": 0, "repetition_penalty": 2.0},
        {"top_k": 100, "top_p": 1e-6},
    ],
    ids=str,
)
def test_draws_follow_the_distribution(settings):
    model = TableModel(8, seed=5, scale=1.0)
    named = {("penalty" if name == "repetition_penalty" else name): value for name, value in settings.items()}
    wanted = probabilities(model, **named)
    found = frequencies(model, **settings)
    assert (found[wanted == 0] == 0).all()
    assert np.abs(found - wanted).max() < 4 * np.sqrt(0.25 / 4000)


def test_a_seed_decides_the_answer():
    model = TableModel(50)
    settings = {"max_new_tokens": 10, "do_sample": True, "top_k": 0}
    runs = [generate(model, seed=seed, **settings).token_ids.tolist() for seed in (1, 2, 1)]
    assert runs[0] == runs[2] != runs[1]
    assert runs[0][0] != runs[0][1]


def test_without_a_seed_paddles_own_decides():
    model = TableModel(50)
    settings = {"max_new_tokens": 10, "do_sample": True, "top_k": 0}
    runs = []
    for seed in (3, 3, 4):
        paddle.seed(seed)
        runs.append(generate(model, **settings).token_ids.tolist())
    again = generate(model, **settings).token_ids.tolist()
    assert runs[0] == runs[1] != runs[2] and again != runs[2]


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_k": 1}, {"temperature": 1e-6, "top_k": 0}], ids=str)
def test_draws_without_a_choice_are_greedy(settings):
    model = TableModel(20)
    answer = generate(model, max_new_tokens=5, do_sample=True, seed=0, **settings)
    assert answer.token_ids.tolist() == [greedy(model, prompt, 5)[0] for prompt in PROMPTS]


def test_scores_of_draws_are_those_of_the_whole_distribution():
    model = TableModel(6)
    answer = generate(model, max_new_tokens=3, do_sample=True, top_k=2, temperature=2.0, seed=4)
    for prompt, tokens, score in zip(PROMPTS, answer.token_ids.tolist(), answer.scores.numpy()[:, 0], strict=True):
        steps = [model.log_probabilities([*prompt, *tokens[:i]])[token] for i, token in enumerate(tokens)]
        assert score == pytest.approx(np.mean(steps), abs=1e-5)


# ---- streaming and stopping


class Listener:
    def __init__(self):
        self.heard, self.ended = [], 0

    def put(self, token_ids) -> None:
        self.heard.append(np.asarray(token_ids).tolist())

    def end(self) -> None:
        self.ended += 1


def test_the_streamer_hears_every_token_once():
    listener = Listener()
    answer = generate(TableModel(8, 2), streamer=listener, max_new_tokens=9, eos_token_ids=[EOS, 3])
    assert np.array(listener.heard).T.tolist() == answer.token_ids.tolist() and listener.ended == 1


def test_the_streamer_is_told_of_an_end_by_error():
    model, listener = TableModel(8), Listener()

    def fail(token_ids, cache):
        raise RuntimeError("lost the device")

    step = model.step(PROMPTS)
    step.decode = fail
    with pytest.raises(RuntimeError, match="lost the device"):
        generate_tokens(step, paddle.to_tensor(PROMPTS), GenerationSettings(max_new_tokens=3), listener)
    assert listener.ended == 1 and len(listener.heard) == 1


def test_criteria_see_everything_and_end_the_answer():
    seen = []

    def third(token_ids, scores):
        seen.append((token_ids.tolist(), scores.shape))
        return token_ids.shape[1] == 3 + 3

    def never(token_ids, scores):
        return False

    model = TableModel(20)
    answer = generate(model, max_new_tokens=9, stopping_criteria=[never, third])
    rows = [greedy(model, prompt, 3)[0] for prompt in PROMPTS]
    assert answer.token_ids.tolist() == rows
    assert seen == [
        ([prompt + row[:count] for prompt, row in zip(PROMPTS, rows, strict=True)], [2, 1]) for count in (1, 2, 3)
    ]


def test_a_criterion_ends_single_rows():
    """Row 1 after two tokens, row 0 after five, row 2 not at all."""
    prompts = [*PROMPTS, [7, 8, 1]]

    def short_enough(token_ids, scores):
        return np.array([token_ids.shape[1] >= 3 + 5, token_ids.shape[1] >= 3 + 2, False])

    model = TableModel(20)
    answer = generate(model, prompts, max_new_tokens=7, stopping_criteria=[short_enough])
    counts = (5, 2, 7)
    assert_rows(answer, [greedy(model, prompt, count) for prompt, count in zip(prompts, counts, strict=True)])
    assert model.rows_decoded == sum(counts) - 3  # a row's last token is not decoded, nor anything after it


@pytest.mark.parametrize("penalty", [1.0, 1.5])
@pytest.mark.parametrize("seed", range(4))
def test_rows_that_have_ended_leave_the_batch(seed, penalty):
    prompts, eos = np.random.default_rng(seed).integers(1, 8, [7, 4]).tolist(), (EOS, 3)
    model = TableModel(8, seed)
    answer = generate(model, prompts, max_new_tokens=20, eos_token_ids=list(eos), repetition_penalty=penalty)
    rows = [greedy(model, prompt, 20, eos, penalty=penalty) for prompt in prompts]
    assert_rows(answer, rows)
    assert model.rows_decoded == sum(len(tokens) - 1 for tokens, _ in rows)


def test_a_rows_draws_do_not_depend_on_when_others_end():
    settings = {"max_new_tokens": 8, "do_sample": True, "top_k": 0, "seed": 1}
    free = generate(TableModel(20), **settings).token_ids.tolist()
    first = free[0][1]
    ended = generate(TableModel(20), **settings, eos_token_ids=[first]).token_ids.tolist()
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
    answer = generate(model, streamer=listener, max_new_tokens=9, stopping_criteria=[lambda *_: cancelled.is_set()])
    assert answer.token_ids.tolist() == [greedy(model, prompt, 3)[0] for prompt in PROMPTS]
    assert model.decoded == 2 and listener.ended == 1


def test_pad_token_may_be_an_end_token():
    model = TableModel(8, 1)
    answer = generate(model, max_new_tokens=12, eos_token_ids=[EOS, 3, 7], pad_token_id=3)
    lengths = [len(greedy(model, prompt, 12, (EOS, 3, 7))[0]) for prompt in PROMPTS]
    for row, length in zip(answer.token_ids.tolist(), lengths, strict=True):
        assert row[length:] == [3] * (max(lengths) - length)
