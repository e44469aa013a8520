"""Answers drawn on the pictures that were asked about."""

import numpy as np
from PIL import Image

from paddlemix_qwenvl.commands.drawing import draw_answer
from paddlemix_qwenvl.engine.session import Answer


def test_boxes_are_drawn_on_each_picture(tmp_path):
    box = '[{"bbox_2d": [28, 28, 84, 84], "label": "star"}]'
    answer = Answer(box, [], 0, original_sizes=[(126, 98), (60, 60)], resized_sizes=[(252, 196), (56, 56)])
    lines = draw_answer(
        answer, [Image.new("RGB", (126, 98)), Image.new("RGB", (60, 60))], str(tmp_path / "new" / "boxes.png")
    )
    assert lines[0] == f"{tmp_path}/new/boxes-1.png: star [14, 14, 42, 42]"
    assert lines[1].startswith(f"{tmp_path}/new/boxes-2.png: the answer points at nothing")
    found, nothing = (np.asarray(Image.open(line.partition(": ")[0])) for line in lines)
    assert found.any() and not nothing.any()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["boxes-1.png", "boxes-2.png"]
