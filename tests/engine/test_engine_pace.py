"""Tokens of prompts in a step, on a machine that takes a given time for them."""

from itertools import pairwise

import pytest
from table_model import engine_of, request

from paddlemix_qwenvl.engine.events import Progress
from paddlemix_qwenvl.engine.pace import Pace

MOST = 512


def budgets(seconds, steps: int = 200, waiting: int = 10**9) -> list[tuple[int, float]]:
    """Tokens of prompts beside answers that wait, and time, of each step; `seconds` is what so many tokens take."""
    pace, found = Pace(MOST), []
    for _ in range(steps):
        tokens = min(waiting, pace.budget(1))
        found.append((tokens, seconds(tokens)))
        pace.took(seconds(tokens), 1, tokens)
    return found


def test_prompts_alone_take_all_there_is_room_for():
    pace = Pace(MOST)
    pace.took(1.0, 0, MOST)
    assert pace.budget(0) == MOST


@pytest.mark.parametrize("per_token", [1e-4, 1e-3, 5e-3])
def test_no_step_takes_three_usual_ones_for_long(per_token):
    usual = 0.1
    found = budgets(lambda tokens: usual + tokens * per_token)
    assert all(seconds < 3 * usual for _, seconds in found[20:])
    most = max(tokens for tokens, _ in found[20:])
    assert most == pytest.approx(min(MOST, 1.25 * usual / per_token), rel=0.15)


def test_a_step_takes_some_tokens_always():
    found = budgets(lambda tokens: 0.1 + tokens)
    assert min(tokens for tokens, _ in found if tokens) == 8


def test_every_so_often_a_step_goes_without_prompts():
    empty = [step for step, (tokens, _) in enumerate(budgets(lambda tokens: 0.1)) if not tokens]
    assert empty[0] == 0 and {after - before for before, after in pairwise(empty)} == {33}


def test_short_prompts_do_not_raise_the_budget():
    pace = Pace(MOST)
    pace.took(0.1, 1, 0)
    before = pace.budget(1)
    for _ in range(20):
        pace.took(0.1, 1, 1)
    assert pace.budget(1) == before


def test_a_machine_that_gets_slower_is_followed():
    pace = Pace(MOST)
    for step in range(400):
        usual = 0.1 if step < 100 else 0.4
        tokens = pace.budget(1)
        pace.took(usual + tokens * 1e-3, 1, tokens)
    assert pace.budget(1) == pytest.approx(512, rel=0.1)


def test_what_is_usual_follows_the_number_of_answers():
    """A step with 8 answers takes twice as long as one with one: prompts may take twice as much beside them, at once."""
    pace, found = Pace(MOST), []
    for step in range(40):
        answers = 1 if step < 20 else 8
        usual, tokens = (0.1 if answers == 1 else 0.2), pace.budget(answers)
        found.append(tokens)
        pace.took(usual + tokens * 1e-3, answers, tokens)
    assert found[19] == pytest.approx(125, rel=0.1) and found[20] == 0
    assert found[39] == pytest.approx(250, rel=0.1)


def test_answers_that_come_and_go_do_not_stop_prompts():
    pace, found = Pace(MOST), []
    for step in range(20):
        found.append(pace.budget(1 + step % 3))
        pace.took(0.1, 1 + step % 3, found[-1])
    assert not any(one == other == 0 for one, other in pairwise(found))


def test_requests_that_come_together_begin_together(monkeypatch):
    """Their prompts are computed whole beside each other's answers; one that comes later spares these."""
    monkeypatch.setattr(Pace, "budget", lambda self, answers: 4 if answers else self.most)
    engine = engine_of(num_blocks=300, max_num_batched_tokens=100)
    first, second = (engine.add(request([i] * 100, settings={"max_new_tokens": 40})) for i in (2, 3))
    done = {first: [], second: []}
    for _ in range(2):
        for event in engine.step():
            if isinstance(event, Progress):
                done[event.request_id].append(event.done)
    assert done == {first: [100], second: [100]}
    late = engine.add(request([4] * 100, settings={"max_new_tokens": 2}))
    events = [event for _ in range(3) for event in engine.step()]
    assert [event.done for event in events if isinstance(event, Progress) and event.request_id == late] == [4, 8, 12]
