"""Scenes: seeded, inside the picture, and described truly."""

import json
from random import Random

import numpy as np
import pytest
import scenes


@pytest.mark.parametrize("task", scenes.TASKS)
def test_the_same_seed_gives_the_same_example(task):
    (first, *said), (second, *said_again) = scenes.example(task, 7), scenes.example(task, 7)
    assert said == said_again
    assert [scene.shapes for scene in first] == [scene.shapes for scene in second]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))
    assert len(first) == (2 if task == "compare" else 1)


def test_shapes_fill_their_boxes_and_do_not_touch():
    for seed in range(30):
        rng = Random(seed)
        scene = scenes.draw_scene(rng, scenes.random_size(rng), 5)
        boxes = [shape.box for shape in scene.shapes]
        width, height = scene.image.size
        for number, (x1, y1, x2, y2) in enumerate(boxes):
            assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
            for a1, b1, a2, b2 in boxes[:number]:
                assert x2 <= a1 or a2 <= x1 or y2 <= b1 or b2 <= y1


@pytest.mark.parametrize("kind", [*scenes.SHAPES, "heart"])
def test_a_painted_shape_covers_its_box_to_all_four_sides(kind):
    image = scenes.Image.new("RGB", (100, 90))
    scenes.paint(Random(0), image, scenes.Shape(kind, "red", (20, 30, 70, 80)))
    rows, columns = np.nonzero(np.asarray(image)[..., 0] > 20)
    assert (columns.min(), rows.min()) == (20, 30)
    assert (columns.max(), rows.max()) == (69, 79)


def test_descriptions_group_and_count():
    names = [("cross", "blue"), ("star", "red"), ("cross", "blue")]
    shapes = [scenes.Shape(kind, color, (i, 0, i + 9, 9)) for i, (kind, color) in enumerate(names)]
    assert scenes.describe(shapes) == "a red star and two blue crosses"
    assert scenes.describe([scenes.Shape("circle", "orange", (0, 0, 9, 9))]) == "an orange circle"
    three = [scenes.Shape(kind, "green", (0, 0, 9, 9)) for kind in ("star", "circle", "square")]
    assert scenes.describe(three) == "a green circle, a green square and a green star"


def test_boxes_count_in_the_resized_pictures_pixels():
    scene = scenes.Scene(scenes.Image.new("RGB", (130, 230)), [scenes.Shape("circle", "red", (13, 23, 65, 115))])
    answer = scenes.boxes_json(scene, scene.shapes)
    assert answer.startswith("```json\n[\n\t{") and answer.endswith("}\n]\n```")
    assert json.loads(answer[7:-3]) == [{"bbox_2d": [14, 22, 70, 112], "label": "red circle"}]  # 140 x 224


def test_counts_agree_with_the_scene():
    for seed in range(200):
        drawn, question, answer = scenes.example("count", seed)
        if "shapes are" in question and not any(color in question for color in scenes.COLORS):
            assert int(answer) == len(drawn[0].shapes)


def test_comparisons_add_up():
    for seed in range(100):
        _, _, answer = scenes.example("compare", seed)
        first, second = int(answer[0]), int(answer.split()[2].rstrip(","))
        verdict = {0: "neither.", 1: "the first image.", -1: "the second image."}[(first > second) - (first < second)]
        assert answer.endswith("so " + verdict)
