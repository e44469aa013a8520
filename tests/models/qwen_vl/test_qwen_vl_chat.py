"""Conversations: turns, windows, pictures seen once, streams, bad input."""

from itertools import pairwise

import paddle
import pytest

from paddlemix_qwenvl.errors import MediaError, PromptError
from paddlemix_qwenvl.models.qwen_vl.prompt import chat_ids


@pytest.fixture
def seen(model, monkeypatch):
    """How many pictures went through the vision tower in each call."""
    counts, tower = [], model.transformer.visual.forward
    monkeypatch.setattr(model.transformer.visual, "forward", lambda images: counts.append(len(images)) or tower(images))
    monkeypatch.setattr(model, "_kept_engine", None)
    return counts


def test_turns_follow_each_other(model, tokenizer):
    response, history = model.chat(tokenizer, "the town", history=None, system="s")
    assert history == [("the town", response)]
    ids = chat_ids(tokenizer, "and <|im_end|>", history, "s")
    expected, _ = model.generate(paddle.to_tensor([ids]), eos_token_id=[])
    again, longer = model.chat(tokenizer, "and <|im_end|>", history, system="s")
    assert longer is history and history[1] == ("and <|im_end|>", again)
    said = tokenizer.decode(expected[0].tolist())
    assert said.split("<|im_")[0].strip().startswith(again)
    other, untouched = model.chat(tokenizer, "and <|im_end|>", history[:1], system="s", append_history=False)
    assert other == again and len(untouched) == 1


def test_an_answer_ends_with_its_turn(model, tokenizer, monkeypatch):
    first = tokenizer.ids("the")[0]
    answer = [first, tokenizer.box_start_id, tokenizer.im_end_id, first, first]
    spoken = iter(answer)

    def speak(*_):
        scores = paddle.zeros([1, model.config.vocab_size])
        scores[0, next(spoken)] = 1.0
        return scores

    monkeypatch.setattr(model.lm_head, "forward", speak)
    model.forget_images()  # and the engine, which has recorded what the head did
    response, _ = model.chat(tokenizer, "q")
    assert response == "the<box>" and next(spoken) == first  # it was not asked further


def test_the_tower_sees_a_picture_once(model, tokenizer, seen):
    query = tokenizer.from_list_format([{"image": "street.png"}, {"image": "tower.png"}, {"text": "What?"}])
    _, history = model.chat(tokenizer, query)
    model.chat(tokenizer, "And now?", history)
    assert seen == [2]
    model.chat(tokenizer, "<img>图 é.png</img><img>street.png</img>", history)
    assert seen == [2, 1]
    model.train()
    model.eval()
    model.chat(tokenizer, "<img>street.png</img>")
    assert seen == [2, 1, 1]


def test_remembered_features_are_those_of_the_tower(model, tokenizer, seen):
    ids = paddle.to_tensor([tokenizer.ids("<img>street.png</img>the<img>street.png</img>")])
    fresh, _ = model.generate(ids, eos_token_id=[])
    once, _ = model.generate(ids, eos_token_id=[], remember_images=True)
    again, _ = model.generate(ids, eos_token_id=[], remember_images=True)
    assert seen == [1, 1] and (fresh == once).all() and (fresh == again).all()


def test_a_window_that_leaves_old_turns_out(model, tokenizer, seen):
    history = [("<img>street.png</img>", "one"), ("<img>tower.png</img>", "two")]
    model.chat(tokenizer, "last", list(history), max_window_size=400)
    assert seen == [1]


def test_a_stream_ends_as_the_whole_answer(model, tokenizer):
    query = "<img>street.png</img>the river"
    response, _ = model.chat(tokenizer, query, max_new_tokens=12)
    history = []
    pieces = list(model.chat_stream(tokenizer, query, history, max_new_tokens=12))
    assert pieces[-1].strip() == response and history == []
    assert all(later.startswith(earlier) for earlier, later in pairwise(pieces))


def test_what_chat_sets_may_be_set(model, tokenizer, seen):
    options = {"eos_token_id": [], "max_new_tokens": 5, "remember_images": False}
    response, _ = model.chat(tokenizer, "the", **options)
    for criteria in (None, [], lambda ids, scores: False):
        pieces = list(model.chat_stream(tokenizer, "the", stopping_criteria=criteria, **options))
        assert pieces[-1] == response
    assert model._kept_engine is None


def test_a_closed_stream_stops(model, tokenizer):
    stream = model.chat_stream(tokenizer, "the", max_new_tokens=500, min_new_tokens=500)
    next(stream)
    stream.close()  # returns at once, not after 500 tokens


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("<img>no/such/picture.png</img>", MediaError),
        ("<img>config.json</img>", MediaError),
        ("<img>street.png", PromptError),
        ("<img>street.png</img>" * 300, PromptError),
    ],
    ids=["missing", "no picture", "unclosed", "300 pictures"],
)
def test_bad_input(model, tokenizer, query, error):
    with pytest.raises(error):
        model.chat(tokenizer, query)
    with pytest.raises(error):
        list(model.chat_stream(tokenizer, query))


def test_a_model_that_is_not_for_chat(model, tokenizer, monkeypatch):
    monkeypatch.setattr(model.generation_config, "chat_format", "raw")
    with pytest.raises(PromptError, match="load Qwen/Qwen-VL-Chat"):
        model.chat(tokenizer, "q")


def test_settings_as_one_object(model, tokenizer, seen):
    """A generation config in the call goes before the model's, the window of old turns too."""
    given = {"chat_format": "chatml", "max_window_size": 400, "max_new_tokens": 2, "decode_strategy": "greedy_search"}
    settings = model.generation_config_of(given)
    history = [("<img>street.png</img>", "one"), ("<img>tower.png</img>", "two")]
    response, _ = model.chat(tokenizer, "last", list(history), generation_config=settings)
    assert seen == [1]
    assert response == model.chat(tokenizer, "last", list(history), max_window_size=400, max_new_tokens=2)[0]


def test_ids_whose_pictures_cannot_be_made_out(model, tokenizer):
    start, end = tokenizer.img_start_id, tokenizer.img_end_id
    slot = tokenizer.ids("<img>street.png</img>")
    for ids in ([start, 1], [end, 1], [start, 1, end], slot[:1] + [400] * 256 + slot[-1:], slot[::-1]):
        with pytest.raises(PromptError):
            model(input_ids=paddle.to_tensor([ids]))
    images = paddle.zeros([2, 3, 112, 112])
    with pytest.raises(PromptError, match=r"1 picture\(s\) but images has 2"):
        model(input_ids=paddle.to_tensor([slot]), images=images)
