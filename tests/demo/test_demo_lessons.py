"""Lessons: seeded, with the answers labelled and weighed, and no answer that gives a later one away."""

import itertools
from functools import partial
from random import Random

import lessons
import numpy as np
import pytest
import scenes
import tokenizer as demo_tokenizer
from lessons import BOX, IGNORED, Stage, answer_weights, draw, lesson

from paddlemix_qwenvl import Qwen2_5_VLProcessor

STAGE = Stage(10**9, (84, 140), 112 * 112, 3, batch=4)


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    demo_tokenizer.save_processor(folder)
    return Qwen2_5_VLProcessor.from_pretrained(str(folder))


def test_no_box_is_told_twice_and_no_question_asked_twice():
    for seed in range(60):
        rng = Random(seed)
        task, drawn = draw(rng, STAGE, scenes.SHAPES)
        said = lesson(rng, task, drawn, 4)
        assert 1 <= len(said) <= 5
        questions, told = [question for question, _ in said], [BOX.findall(answer) for _, answer in said]
        assert len(set(questions)) == len(questions)
        boxes = list(itertools.chain(*told))
        assert len(set(boxes)) == len(boxes)


def test_pictures_stay_within_the_stage():
    for seed in range(40):
        task, drawn = draw(Random(seed), STAGE, scenes.SHAPES)
        width, height = drawn[0].image.size
        assert min(width, height) >= 84 and max(width, height) <= 140 and width * height <= 126 * 126
        assert len(drawn) == (2 if task == "compare" else 1) and all(len(scene.shapes) <= 3 for scene in drawn)


def test_the_same_seed_gives_the_same_batches(processor):
    first, second = (next(lessons.scene_batches(processor, 0, 0, 12, stages=(STAGE,))) for _ in range(2))
    names = {
        "input_ids",
        "attention_mask",
        "labels",
        "weights",
        "pixel_values",
        "image_grid_thw",
        "patch_labels",
        "patch_boxes",
    }
    assert set(first) == names
    assert all(np.array_equal(first[name], second[name]) for name in first)
    other = next(lessons.scene_batches(processor, 0, 1, 12, stages=(STAGE,)))
    assert not np.array_equal(first["input_ids"], other["input_ids"])
    assert ((first["weights"] > 0) == (first["labels"] != IGNORED)).all()


def test_short_answers_weigh_more_a_token():
    labels = np.array([[IGNORED, 1, 2, 3, 4, IGNORED, 5], [IGNORED, IGNORED, 6, 7, 8, 9, IGNORED]])
    expected = [[0, 0.5, 0.5, 0.5, 0.5, 0, 1], [0, 0, 0.5, 0.5, 0.5, 0.5, 0]]
    np.testing.assert_allclose(answer_weights(labels), expected)


def test_a_new_shape_has_no_labels_for_patches(processor):
    batch = next(lessons.scene_batches(processor, 0, 0, 0, ("heart",), (STAGE,), labelled=False))
    assert "patch_labels" not in batch and len(batch["input_ids"]) == STAGE.batch


def no_batches(processor):
    raise ValueError("no batches")
    yield


def test_the_end_of_the_drawing_process_is_an_error(processor, tmp_path):
    processor.save_pretrained(str(tmp_path))
    with pytest.raises(RuntimeError, match="process that makes the batches has ended"):
        next(lessons.in_background(no_batches, partial(Qwen2_5_VLProcessor.from_pretrained, str(tmp_path))))
