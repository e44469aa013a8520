"""Answers that a grammar guides, on a model that would say something else."""

import re

import pytest
from table_model import Repeating, TableModel, answer_of, engine_of, events_of, finished, greedy, request

from paddlemix_qwenvl.engine.events import Failed
from paddlemix_qwenvl.engine.grammar import Grammar, Matcher, Vocabulary
from paddlemix_qwenvl.errors import GenerationError

PROMPT = [1, 2, 3, 4, 5, 6]
SIZE, END = 260, 256  # of bytes, an end token, and three rows of the model that are no tokens


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary({token: bytes([token]) for token in range(255)}, [], SIZE, [END])


@pytest.fixture(scope="module")
def grammar(vocabulary) -> Grammar:
    return Grammar.regex("(abc|bcd){3}x?[m-p]{2,4}", vocabulary)


def text_of(tokens) -> str:
    return "".join(chr(token) for token in tokens if token != END)


def answers(grammar, count: int = 1, engine=None, **settings) -> list[str]:
    """The texts of a request, which ended as they should."""
    settings = {"max_new_tokens": 30, "eos_token_ids": [END], **settings}
    engine = engine or engine_of(TableModel(SIZE), num_blocks=90)
    engine.add(request(PROMPT, settings=settings, grammar=grammar))
    found = finished(events_of(engine)).values()
    assert len(found) == count and {each.reason for each in found} == {"stop"}
    assert engine.blocks.available == engine.blocks.num_blocks
    return [text_of(each.token_ids) for each in found]


WAYS = [
    {},
    {"do_sample": True, "temperature": 3.0, "top_k": 0, "seed": 1},
    {"repetition_penalty": 2.0},
    {"logit_bias": {97: -100.0, 122: 100.0}},
    {"min_new_tokens": 20},
]


@pytest.mark.parametrize("settings", WAYS, ids=str)
def test_an_answer_follows_its_grammar(grammar, settings):
    (text,) = answers(grammar, **settings)
    assert re.fullmatch("(abc|bcd){3}x?[m-p]{2,4}", text)
    free = answer_of(engine_of(TableModel(SIZE)), PROMPT, max_new_tokens=11)
    assert not re.match("(abc|bcd){3}", text_of(free))


def test_several_answers_follow_it_each_in_its_own_way(grammar):
    settings = {"do_sample": True, "temperature": 3.0, "top_k": 0, "seed": 1, "num_return_sequences": 4}
    found = answers(grammar, count=4, **settings)
    assert len(set(found)) > 1 and all(re.fullmatch("(abc|bcd){3}x?[m-p]{2,4}", text) for text in found)


def test_neighbours_are_not_guided(grammar):
    engine = engine_of(TableModel(SIZE))
    settings = {"max_new_tokens": 12}
    alone = answer_of(engine, [7, 8], **settings)
    free = engine.add(request([7, 8], settings=settings))
    guided = engine.add(request(PROMPT, settings={**settings, "eos_token_ids": [END]}, grammar=grammar))
    found = finished(events_of(engine))
    assert found[free, 0].token_ids == alone
    assert re.match("(abc|bcd){3}", text_of(found[guided, 0].token_ids))


def test_one_that_gives_its_blocks_back_goes_on_in_its_grammar(grammar):
    engine = engine_of(TableModel(SIZE), num_blocks=9)
    (alone,) = answers(grammar)
    for _ in range(3):
        engine.add(request(PROMPT, settings={"max_new_tokens": 30, "eos_token_ids": [END]}, grammar=grammar))
    found = finished(events_of(engine)).values()
    assert [text_of(each.token_ids) for each in found] == [alone] * 3


@pytest.mark.parametrize("settings", [{}, {"do_sample": True, "temperature": 0.2, "seed": 1}], ids=str)
def test_drafts_are_those_that_the_grammar_takes(vocabulary, settings):
    grammar, found, steps = Grammar.regex("(abc|bcd){9}x", vocabulary), [], []
    for count in (0, 4):
        model = Repeating(SIZE)
        found.append(answers(grammar, engine=engine_of(model), prompt_lookup_num_tokens=count, **settings))
        steps.append(model.steps)
    assert found[0] == found[1] and re.fullmatch("(abc|bcd){9}x", found[0][0])
    assert steps[1] < 0.8 * steps[0]


def test_an_answer_ends_where_nothing_can_follow(vocabulary):
    assert answers(Grammar.choice(["abc"], vocabulary)) == ["abc"]


def test_beams_take_no_grammar(grammar):
    with pytest.raises(GenerationError, match="beam search takes no grammar and no stop strings"):
        engine_of(TableModel(SIZE)).add(
            request(PROMPT, settings={"num_beams": 2, "max_new_tokens": 5}, grammar=grammar)
        )


def test_a_grammar_for_another_vocabulary(grammar):
    engine = engine_of(TableModel(40))
    with pytest.raises(GenerationError, match="the grammar is for 260 tokens and the model has 40"):
        engine.add(request(PROMPT, grammar=grammar))
    assert not engine.busy


def test_one_of_several_answers_that_fails_leaves_the_neighbours_alone(vocabulary, monkeypatch):
    """They are behind it in the batch."""
    model, mask, asked = TableModel(SIZE), Matcher.mask, []

    def failing(matcher):
        asked.append(1)
        if len(asked) == 5:  # the second answer's second token
            raise GenerationError("leads nowhere")
        return mask(matcher)

    monkeypatch.setattr(Matcher, "mask", failing)
    engine = engine_of(model)
    settings = {"do_sample": True, "seed": 1, "num_return_sequences": 3, "eos_token_ids": [END], "max_new_tokens": 9}
    guided = engine.add(request(PROMPT, settings=settings, grammar=Grammar.regex("[a-z]{20}", vocabulary)))
    free = engine.add(request([7, 8], settings={"max_new_tokens": 9}))
    events = events_of(engine)
    assert [event.request_id for event in events if isinstance(event, Failed)] == [guided]
    assert finished(events)[free, 0].token_ids == greedy(model, [7, 8], 9)[0]
    assert engine.blocks.available == engine.blocks.num_blocks
