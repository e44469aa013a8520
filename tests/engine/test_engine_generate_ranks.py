"""`generate` and `Assistant` on ranks that are threads: one answer, which the first rank's arguments decide."""

from functools import partial
from pathlib import Path

import hub_model
import numpy as np
import pytest
from test_parallel import inputs, on_all_ranks, split_model, together

from paddlemix_qwenvl import Qwen2_5_VLProcessor
from paddlemix_qwenvl.engine.runner import ModelRunner
from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.errors import ConfigurationError, MediaError, PromptError
from paddlemix_qwenvl.models.qwen2_5_vl import positions

PICTURE = Path(__file__).parents[2] / "examples" / "images" / "shapes.png"
GIVEN = inputs(hub_model.config())
GREEDY = {"min_new_tokens": 6, "max_new_tokens": 6}


@pytest.fixture(scope="module")
def models(hub_folder):
    return split_model(hub_folder, 2)


class Steps:
    """A streamer, and how many tokens there were when it was asked."""

    def __init__(self):
        self.columns, self.ended = [], 0

    def put(self, token_ids):
        assert not self.ended
        self.columns.append(token_ids.tolist())

    def end(self):
        self.ended += 1


def is_first(model) -> bool:
    return model.lm_head.parallel.rank == 0


def test_only_the_first_ranks_arguments_count(models, model):
    wanted = model.generate(**GIVEN, **GREEDY)[0].tolist()

    def answer(model):
        given = {**GIVEN, **GREEDY} if is_first(model) else {"input_ids": None, "temperature": "warm"}
        return model.generate(**given)[0].tolist()

    assert on_all_ranks(models, answer) == [wanted] * 2


def test_every_streamer_gets_the_answer_and_one_criterion_is_asked(models):
    streamers, asked = [Steps(), Steps()], [[], []]

    def answer(model):
        rank = model.lm_head.parallel.rank

        def criterion(ids, scores):
            asked[rank].append(len(streamers[rank].columns))
            return len(asked[rank]) == 4

        return model.generate(**GIVEN, **GREEDY, streamer=streamers[rank], stopping_criteria=criterion)[0]

    for ids, streamer in zip(on_all_ranks(models, answer), streamers, strict=True):
        assert ids.shape[1] == 4 and streamer.columns == ids.T.tolist() and streamer.ended == 1
    assert asked == [[1, 2, 3, 4], []]


def test_an_answer_that_breaks_reaches_no_other_streamer(models):
    streamers = [Steps(), Steps()]

    def answer(model):
        streamer = streamers[model.lm_head.parallel.rank]

        def criterion(ids, scores):
            if len(streamer.columns) == 2:
                raise PromptError("enough.")

        with pytest.raises(PromptError, match=r"^enough\.$"):
            model.generate(**GIVEN, **GREEDY, streamer=streamer, stopping_criteria=criterion)
        return model.generate(**GIVEN, **GREEDY)[0].tolist()

    first, second = on_all_ranks(models, answer)
    assert first == second and len(streamers[0].columns) == 2 and not streamers[1].columns


def test_text_is_streamed_on_all_ranks_and_ends_where_the_first_leaves(models, processor):
    prompt = {"input_ids": GIVEN["input_ids"][:1], "attention_mask": GIVEN["attention_mask"][:1]}
    settings = {"do_sample": True, "temperature": 2.0, "seed": 2, "min_new_tokens": 24, "max_new_tokens": 24}

    def pieces(model, most=None):
        stream = model.stream(processor.tokenizer, **prompt, **settings)
        found = [next(stream)] if most else [*stream]
        stream.close()
        return found

    first, second = on_all_ranks(models, pieces)
    assert len(first) > 1 and "".join(first) == "".join(second)
    assert on_all_ranks(models, lambda model: pieces(model, 1 if is_first(model) else None)[0])[0] == first[0]


def test_what_is_remembered_stays_on_all_ranks(models, model):
    row = {name: value[1:] for name, value in GIVEN.items() if name in ("input_ids", "attention_mask")}
    row |= {name: GIVEN[name] for name in ("pixel_values", "image_grid_thw")}
    wanted = [model.generate(**given, **GREEDY)[0].tolist() for given in (row, GIVEN, row)]

    def answer(model):
        model.train()
        model.eval()
        found, caches = [], set()
        for given in (row, GIVEN, row):
            found.append(model.generate(**given, **GREEDY, remember_images=True)[0].tolist())
            caches.add(id(model._kept_runner._cache))
        assert len(caches) == 1 and (model._kept_engine is not None) == is_first(model)
        return found

    assert on_all_ranks(models, answer) == [wanted] * 2


@pytest.fixture(scope="module")
def assistants(hub_folder, models):
    processor = Qwen2_5_VLProcessor.from_pretrained(hub_folder)

    def make(model):
        prompts = partial(positions.prompts, model.config)
        how = {"kv_cache_gib": 1 / 2**10} if is_first(model) else {"kv_cache_gib": 0.0}  # which do not count
        return Assistant.of(ModelRunner(model), processor, prompts, model.generation_config, model.config, 0.0, **how)

    return on_all_ranks(models, make)


def asked(assistants, ask) -> list:
    return together([each.parallel for each in assistants], ask, assistants)


def test_an_assistant_answers_on_all_ranks(assistants, hub_folder):
    alone = Assistant.load(str(hub_folder), dtype="float32")
    wanted = alone.ask("what?", [PICTURE], **GREEDY)
    texts: list[list[str]] = [[], []]

    def ask(assistant):
        rank = assistant.parallel.rank
        picture = "nowhere.png" if rank else PICTURE
        return assistant.ask("what?", [picture], on_text=texts[rank].append, **GREEDY)

    for answer in asked(assistants, ask):
        assert (answer.text, answer.token_ids, answer.reason) == (wanted.text, wanted.token_ids, wanted.reason)
        assert np.array_equal(answer.sizes["resized_sizes"], wanted.sizes["resized_sizes"])
    assert texts[0] and not texts[1]


def test_a_picture_that_the_first_rank_does_not_find(assistants):
    def ask(assistant):
        with pytest.raises(MediaError) as error:
            assistant.ask("what?", [PICTURE if assistant.parallel.rank else "nowhere.png"])
        return str(error.value)

    first, second = asked(assistants, ask)
    assert first == second and "nowhere.png" in first


def test_an_assistant_without_room_is_none_on_any_rank(models):
    def make(model):
        with pytest.raises(ConfigurationError) as error:
            Assistant.of(ModelRunner(model), None, None, None, None, 0.0, kv_cache_gib=0.0)
        return str(error.value)

    first, second = on_all_ranks(models, make)
    assert first == second and "kv_cache_gib is 0" in first
