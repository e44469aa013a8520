"""`generate` on a real, tiny model, against full forward passes of a literal one."""

import json
import shutil

import hub_model
import numpy as np
import paddle
import pytest
from mixed_batch import BOTH, CLIP, ONE_IMAGE, PAD, ROWS, TEXT, THREE_IMAGES, Row, batch, literal_logits
from numpy_model import NumpyModel

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.engine.streaming import TextStreamer
from paddlemix_qwenvl.errors import GenerationError, PromptError

GREEDY = {"do_sample": False, "repetition_penalty": 1.0}
END = hub_model.IDS["<|im_end|>"]


@pytest.fixture(scope="module")
def literal(hub_tensors):
    return NumpyModel(hub_model.config(), hub_tensors)


def greedy(literal, row: Row, count: int, eos=(), penalty: float = 1.0) -> list[int]:
    """Every token from a forward pass over all that was before."""
    row = Row(list(row.ids), row.images, row.videos, row.seconds)
    new = []
    while len(new) < count and not (new and new[-1] in eos):
        logits = literal_logits(literal, row)[-1]
        seen = np.unique(row.ids)
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
        new.append(int(logits.argmax()))
        row.ids.append(new[-1])
    return new


def padded(rows: list[list[int]], pad: int = PAD) -> list[list[int]]:
    longest = max(map(len, rows))
    return [row + [pad] * (longest - len(row)) for row in rows]


@pytest.fixture
def computed(model, monkeypatch):
    """How many tokens went through the language model in each step."""
    counts, step = [], model.step
    monkeypatch.setattr(
        model, "step", lambda cache, **given: counts.append(given["ids"].shape[0]) or step(cache, **given)
    )
    return counts


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_tokens_of_a_mixed_batch(model, literal, penalty):
    rows = list(ROWS.values())
    wanted = [greedy(literal, row, 12, penalty=penalty) for row in rows]
    ids, scores = model.generate(
        **batch(rows), max_new_tokens=12, do_sample=False, repetition_penalty=penalty, eos_token_id=[]
    )
    assert ids.tolist() == wanted and ids.dtype == paddle.int64
    assert scores.shape == [5, 1] and scores.dtype == paddle.float32
    if penalty == 1.0:
        for row, tokens, score in zip(rows, wanted, scores.numpy()[:, 0], strict=True):
            logits = literal_logits(literal, Row([*row.ids, *tokens], row.images, row.videos, row.seconds))
            logits = logits[len(row.ids) - 1 : -1]
            logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            assert score == pytest.approx(np.mean([log[t] for log, t in zip(logs, tokens, strict=True)]), abs=1e-4)


def test_padding_on_the_right_is_the_same_prompt(model):
    rows = [TEXT, ONE_IMAGE]
    left, right = (
        model.generate(**batch(rows, side), max_new_tokens=6, **GREEDY)[0].tolist() for side in ("left", "right")
    )
    assert left == right


def test_rows_end_at_any_of_several_end_tokens(model, literal):
    rows = [TEXT, ONE_IMAGE, CLIP]
    free = [greedy(literal, row, 10) for row in rows]
    eos = [free[0][2], free[1][5]]
    wanted = [greedy(literal, row, 10, eos) for row in rows]
    assert len({len(row) for row in wanted}) > 1
    ids, _ = model.generate(**batch(rows), max_new_tokens=10, eos_token_id=eos, **GREEDY)
    assert ids.tolist() == padded(wanted)
    ids, _ = model.generate(**batch(rows), max_new_tokens=10, eos_token_id=eos, pad_token_id=5, **GREEDY)
    assert ids.tolist() == padded(wanted, 5)


def test_minimum(model, literal):
    eos = greedy(literal, TEXT, 1)[0]
    ids, _ = model.generate(**batch([TEXT]), max_new_tokens=8, eos_token_id=eos, **GREEDY)
    assert ids.tolist() == [[eos]]
    ids, _ = model.generate(**batch([TEXT]), max_new_tokens=8, min_new_tokens=3, eos_token_id=eos, **GREEDY)
    assert ids.shape[1] >= 3 and eos not in ids.tolist()[0][:3]


def test_defaults_come_from_generation_config_json(hub_folder, tmp_path, model, literal):
    folder = shutil.copytree(hub_folder, tmp_path / "model")
    eos = greedy(literal, TEXT, 3)[-1]
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [END, eos], "pad_token_id": 3, "max_new_tokens": 7, "do_sample": False})
    )
    own = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    rows = [TEXT, ONE_IMAGE]
    assert own.generate(**batch(rows))[0].tolist() == padded([greedy(literal, row, 7, [END, eos]) for row in rows], 3)
    (folder / "generation_config.json").unlink()
    plain = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    assert plain.generation_config.eos_token_id == END
    settings = plain.generation_config_of({"max_new_tokens": 4, "eos_token_id": []})
    ids, _ = plain.generate(**batch([TEXT]), generation_config=settings)
    assert ids.tolist() == [greedy(literal, TEXT, 4)]


def test_the_hubs_defaults_are_as_good_as_greedy(model, literal):
    """do_sample with a temperature of 1e-6 and a repetition penalty of 1.05."""
    ids, _ = model.generate(**batch([ONE_IMAGE, TEXT]), max_new_tokens=8, eos_token_id=[])
    assert ids.tolist() == [greedy(literal, row, 8, penalty=1.05) for row in (ONE_IMAGE, TEXT)]


def test_seeds(model):
    options = {"max_new_tokens": 12, "do_sample": True, "temperature": 2.0, "top_k": 0, "eos_token_id": []}
    given = batch([TEXT, THREE_IMAGES])
    runs = [model.generate(**given, seed=seed, **options)[0].tolist() for seed in (7, 8, 7)]
    assert runs[0] == runs[2] != runs[1]


@pytest.mark.parametrize(
    ("paddlenlp", "ours"),
    [
        ({"decode_strategy": "greedy_search", "max_length": 5}, {"do_sample": False, "max_new_tokens": 5}),
        (
            {"decode_strategy": "sampling", "max_length": 5, "seed": 3, "top_k": 5, "temperature": 2.0},
            {"do_sample": True, "max_new_tokens": 5, "seed": 3, "top_k": 5, "temperature": 2.0},
        ),
        (
            {"decode_strategy": "beam_search", "max_length": 5, "num_beams": 3},
            {"do_sample": False, "max_new_tokens": 5, "num_beams": 3},
        ),
    ],
    ids=["greedy", "sampling", "beam"],
)
def test_paddlenlps_spelling(model, paddlenlp, ours):
    given = batch([TEXT, ONE_IMAGE])
    found, wanted = (model.generate(**given, **options)[0].tolist() for options in (paddlenlp, ours))
    assert found == wanted


@pytest.mark.parametrize("count", [0, -1])
def test_no_new_tokens(model, count):
    with pytest.raises(GenerationError, match=rf"max_new_tokens is {count}, expected greater than or equal to 1"):
        model.generate(**batch([TEXT]), max_new_tokens=count)


@pytest.fixture
def short_context(model):
    whole = model.config.max_position_embeddings
    model.config.max_position_embeddings = 10
    yield model
    model.config.max_position_embeddings = whole


def test_a_prompt_longer_than_the_context(short_context, literal):
    message = r"the prompt has {} tokens and the model's context is 10: shorten it, .* smaller max_pixels"
    for count in (10, 11):
        with pytest.raises(PromptError, match=message.format(count)):
            short_context.generate(paddle.ones([1, count], "int64"), max_new_tokens=1)
    row = Row(TEXT.ids * 2)
    ids, _ = short_context.generate(**batch([row]), max_new_tokens=9, eos_token_id=[], **GREEDY)
    assert ids.tolist() == [greedy(literal, row, 2)]  # what is left of the context


def test_a_minimum_past_the_context_is_what_fits(short_context, literal):
    row = Row(TEXT.ids * 2)
    ids, _ = short_context.generate(**batch([row]), max_new_tokens=9, min_new_tokens=9, **GREEDY)
    assert ids.shape == [1, 2]


def test_without_a_prompt(model):
    with pytest.raises(PromptError, match=r"generate needs input_ids: pass on what the processor returned"):
        model.generate(max_new_tokens=3)


# ---- text out


@pytest.fixture(scope="module")
def inputs(processor):
    return processor(text=["what is it? "], return_tensors="pd")


def test_the_streamer_gets_the_whole_text(model, processor, inputs):
    pieces = []
    streamer = TextStreamer(processor.tokenizer, pieces.append)
    options = {"max_new_tokens": 40, "do_sample": True, "temperature": 1.5, "seed": 5, "eos_token_id": []}
    answer = model.generate(**inputs, streamer=streamer, **options)
    assert "".join(pieces) == processor.batch_decode(answer, skip_special_tokens=True)[0] and len(pieces) > 3
    again = model.generate(**inputs, **options)
    assert again[0].tolist() == answer[0].tolist()


def test_the_streamer_does_not_keep_what_it_may_not_show(model, processor, inputs):
    """Padding after an early end shows nothing."""
    pieces = []
    rows = processor(text=["a", "what is it?"], return_tensors="pd")
    first = model.generate(**rows, max_new_tokens=1, **GREEDY)[0].tolist()[0][0]
    streamer = TextStreamer(processor.tokenizer, pieces.append)
    ids, _ = model.generate(**rows, max_new_tokens=6, eos_token_id=first, streamer=streamer, **GREEDY)
    assert ids.tolist()[0] == [first] + [PAD] * (ids.shape[1] - 1)
    assert "".join(pieces) == processor.decode([first], skip_special_tokens=True)


def test_stop_strings(model, processor, inputs):
    options = {"do_sample": True, "temperature": 1.5, "seed": 5, "eos_token_id": [], "max_new_tokens": 40}
    ids = model.generate(**inputs, **options)[0].tolist()[0]
    texts = [processor.decode(ids[:count]) for count in range(1, 41)]
    stop = next(text[-2:] for text in texts[5:] if "\ufffd" not in text[-2:])
    wanted = next(count for count, text in enumerate(texts, start=1) if stop in text)
    found, _ = model.generate(**inputs, stop_strings=stop, tokenizer=processor.tokenizer, **options)
    assert found.tolist()[0] == ids[:wanted] and 1 < wanted < 40
    with pytest.raises(GenerationError, match="stop_strings need the tokenizer"):
        model.generate(**inputs, stop_strings=[stop])


def test_a_batch_without_rows(model):
    with pytest.raises(PromptError, match="the batch has no rows"):
        model.generate(paddle.zeros([0, 4], "int64"), **GREEDY)


def test_rows_end_on_their_own(model, literal, computed):
    """Every row of a batch says what it says alone, and rows that have ended are not decoded further."""
    rows = list(ROWS.values())
    free = [greedy(literal, row, 12) for row in rows]
    eos = [free[0][3], free[2][7]]
    wanted = [greedy(literal, row, 12, eos) for row in rows]
    alone = [
        model.generate(**batch([row]), max_new_tokens=12, eos_token_id=eos, **GREEDY)[0].tolist()[0] for row in rows
    ]
    assert alone == wanted and len({len(row) for row in wanted}) > 1
    computed.clear()
    ids, _ = model.generate(**batch(rows), max_new_tokens=12, eos_token_id=eos, **GREEDY)
    assert ids.tolist() == padded(wanted)
    prompts, *steps = computed
    assert prompts == sum(len(row.ids) for row in rows)
    assert steps == [sum(len(row) > step for row in wanted) for step in range(1, max(map(len, wanted)))]


def test_what_generate_does_not_know(model, inputs):
    with pytest.raises(GenerationError, match=r"no argument 'max_tokens' \(did you mean 'max_new_tokens'\?\)"):
        model.generate(**inputs, max_tokens=5)
    sizes = {"original_sizes": [(1, 1)], "resized_sizes": [(28, 28)]}
    model.generate(**inputs, **sizes, use_cache=True, max_new_tokens=1)


# ---- beams


def literal_beams(literal, row: Row, beams: int, count: int) -> tuple[list[int], float]:
    """Beam search without an end token, every score from a full forward pass."""
    alive = [(0.0, [])]
    for _ in range(count):
        grown = []
        for score, new in alive:
            logits = literal_logits(literal, Row([*row.ids, *new], row.images, row.videos, row.seconds))[-1]
            logs = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
            grown += [(score + logs[token], [*new, int(token)]) for token in np.argsort(-logs)[:beams]]
        alive = sorted(grown, key=lambda beam: -beam[0])[:beams]
    return alive[0][1], alive[0][0] / ((count + 5) / 6)


def test_beams_of_a_mixed_batch(model, literal):
    rows = [TEXT, BOTH, ONE_IMAGE]
    wanted = [literal_beams(literal, row, 3, 6) for row in rows]
    ids, scores = model.generate(**batch(rows), max_new_tokens=6, num_beams=3, eos_token_id=[], **GREEDY)
    assert ids.tolist() == [tokens for tokens, _ in wanted]
    np.testing.assert_allclose(scores.numpy()[:, 0], [score for _, score in wanted], atol=1e-3)
    assert [tokens for tokens, _ in wanted] != [greedy(literal, row, 6) for row in rows]


@pytest.mark.parametrize("extra", ["streamer", "stopping_criteria"])
def test_beams_are_not_streamed_or_stopped(model, extra):
    given = {"streamer": TextStreamer(None, print)} if extra == "streamer" else {"stopping_criteria": [lambda *_: True]}
    with pytest.raises(GenerationError, match="beam search takes no streamer and no stopping_criteria"):
        model.generate(**batch([TEXT]), num_beams=2, **GREEDY, **given)


# ---- pictures that come again


@pytest.fixture
def seen(model, monkeypatch):
    """The grids that went through the vision tower in each call."""
    grids, tower = [], model.visual.forward

    def forward(pixels, grid_thw):
        grids.append(grid_thw.tolist())
        return tower(pixels, grid_thw)

    monkeypatch.setattr(model.visual, "forward", forward)
    monkeypatch.setattr(model, "_kept_engine", None)
    return grids


def test_a_picture_that_comes_again_is_not_encoded_again(model, literal, seen):
    wanted = [greedy(literal, row, 4) for row in (THREE_IMAGES, BOTH)]
    first, second, third = [list(grid) for _, grid in THREE_IMAGES.images]
    options = {"max_new_tokens": 4, "eos_token_id": [], **GREEDY}
    ids, _ = model.generate(**batch([THREE_IMAGES, THREE_IMAGES]), remember_images=True, **options)
    assert ids.tolist() == [wanted[0]] * 2
    assert seen == [[first, second, third]]  # twice the same in one call, too
    again = Row([*THREE_IMAGES.ids, *BOTH.ids], [*THREE_IMAGES.images, *BOTH.images], BOTH.videos, BOTH.seconds)
    ids, _ = model.generate(**batch([again]), remember_images=True, **options)
    assert ids.tolist() == [greedy(literal, again, 4)]
    images, videos = ([list(grid) for _, grid in media] for media in (BOTH.images, BOTH.videos))
    assert seen[1:] == [[videos[0], images[0], videos[1]]]  # in one pass, as they stand in the prompt


def test_pictures_are_forgotten_where_nothing_asks_to_keep_them_and_by_training(model, seen):
    given = batch([ONE_IMAGE])
    for remember in (False, False, True, True):
        model.generate(**given, max_new_tokens=1, remember_images=remember, **GREEDY)
    assert len(seen) == 3
    model.train()
    model.eval()
    model.generate(**given, max_new_tokens=1, remember_images=True, **GREEDY)
    assert len(seen) == 4


def test_what_a_prompt_begins_with_is_not_computed_again(model, literal, seen, computed):
    """As in a chat: the second turn is the first, its answer and more."""
    first = Row([*ONE_IMAGE.ids, *TEXT.ids * 12], ONE_IMAGE.images)
    wanted = greedy(literal, first, 6)
    second = Row([*first.ids, *wanted, *TEXT.ids], ONE_IMAGE.images)
    options = {"max_new_tokens": 6, "eos_token_id": [], "remember_images": True, **GREEDY}
    for row, prompt_tokens in ((first, 68), (first, 68 - 64), (second, 78 - 64)):
        assert len(row.ids) in (68, 78)
        computed.clear()
        assert model.generate(**batch([row]), **options)[0].tolist() == [greedy(literal, row, 6)]
        assert computed == [prompt_tokens, 1, 1, 1, 1, 1]
    assert len(seen) == 1


def test_a_picture_that_has_changed_is_computed_anew(model, literal, seen, computed):
    (pixels, grid), text = ONE_IMAGE.images[0], TEXT.ids * 12
    options = {"max_new_tokens": 3, "eos_token_id": [], "remember_images": True, **GREEDY}
    for sign in (1, -1):
        row = Row([*ONE_IMAGE.ids, *text], [(sign * pixels, grid)])
        computed.clear()
        assert model.generate(**batch([row]), **options)[0].tolist() == [greedy(literal, row, 3)]
        assert computed == [68, 1, 1]
    assert len(seen) == 2


# ---- from a picture to text


def test_from_messages_to_an_answer(model, processor, literal, tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (70, 130, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = [{"type": "image", "image": str(tmp_path / "a.png")}, {"type": "text", "text": "what is it?"}]
    conversations = [[{"role": "user", "content": content}], [{"role": "user", "content": "hi"}]]
    inputs = processor.apply_chat_template(
        conversations, add_generation_prompt=True, tokenize=True, return_tensors="pd"
    )
    answer = model.generate(**inputs, max_new_tokens=5, eos_token_id=[], **GREEDY)
    for i, ids in enumerate(answer[0].tolist()):
        real = inputs["input_ids"].numpy()[i][inputs["attention_mask"].numpy()[i] == 1].tolist()
        image = [(inputs["pixel_values"].numpy(), inputs["image_grid_thw"].tolist()[0])] if i == 0 else []
        assert ids == greedy(literal, Row(real, image), 5)
    assert processor.post_process(answer) == [
        processor.decode(ids, skip_special_tokens=True).strip() for ids in answer[0].tolist()
    ]
