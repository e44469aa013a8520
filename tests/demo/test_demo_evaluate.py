"""Scores: boxes are matched by label and place, answers word by word."""

import evaluate
import pytest
import scenes
from evaluate import iou, overlap

from paddlemix_qwenvl.grounding.items import Item


def test_iou_is_the_shared_part_of_the_area():
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 10, 10), (20, 0, 30, 10)) == 0


def test_missing_and_surplus_boxes_count_as_zero():
    truth = [scenes.Shape("star", "red", (0, 0, 10, 10)), scenes.Shape("star", "red", (50, 50, 60, 60))]
    found = [Item("box", "red star", (50, 50, 60, 60)), Item("box", "blue star", (0, 0, 10, 10))]
    assert overlap(truth, found) == 0.5
    assert overlap(truth[1:], found) == 0.5
    assert overlap(truth, []) == 0


@pytest.mark.parametrize("task", scenes.TASKS)
def test_right_answers_score_one_and_wrong_ones_less(task):
    def sizes(examples):
        return [scenes.resized(scene.image.size) for drawn, _, _ in examples for scene in drawn]

    said = []
    right = evaluate.evaluate(lambda part: ([answer for _, _, answer in part], sizes(part)), task, 12, 5, said=said)
    wrong = evaluate.evaluate(lambda part: (["no"] * len(part), sizes(part)), task, 12, 5)
    assert len(said) == 12 and all(value > (0.93 if name == "mean IoU" else 0.99) for name, value in right.items())
    assert all(value == 0 for value in wrong.values())
