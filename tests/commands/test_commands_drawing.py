"""Answers drawn on the pictures that were asked about."""

import numpy as np
import pytest
from PIL import Image

from paddlemix_qwenvl.commands.drawing import check_drawing, draw_answer
from paddlemix_qwenvl.engine.session import Answer
from paddlemix_qwenvl.errors import ConfigurationError

BOX = '[{"bbox_2d": [28, 28, 84, 84], "label": "star"}]'
SIZES = {"original_sizes": [(126, 98), (60, 60)], "resized_sizes": [(252, 196), (56, 56)]}


def test_boxes_are_drawn_on_each_picture(tmp_path):
    answer = Answer(BOX, [], "stop", 0, sizes=SIZES)
    lines = draw_answer(
        answer, [Image.new("RGB", (126, 98)), Image.new("RGB", (60, 60))], str(tmp_path / "new" / "boxes.png")
    )
    assert lines[0] == f"{tmp_path}/new/boxes-1.png: star [14, 14, 42, 42]"
    assert lines[1].startswith(f"{tmp_path}/new/boxes-2.png: the answer points at nothing")
    found, nothing = (np.asarray(Image.open(line.partition(": ")[0])) for line in lines)
    assert found.any() and not nothing.any()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["boxes-1.png", "boxes-2.png"]


def test_pictures_are_the_last_ones(tmp_path):
    """As in a chat about the second of two pictures."""
    (line,) = draw_answer(
        Answer(BOX, [], "stop", 0, sizes=SIZES), [Image.new("RGB", (60, 60))], str(tmp_path / "a.jpg")
    )
    assert line == f"{tmp_path}/a.jpg: star [30, 30, 60, 60]"


def test_what_cannot_be_drawn_is_known_before():
    with pytest.raises(ConfigurationError, match=r"a\.txt cannot be written as a picture: give a name that ends in"):
        check_drawing("a.txt", ["a.png"])
    with pytest.raises(ConfigurationError, match=r"there is no picture to draw on for a\.png: show one"):
        check_drawing("a.png", [])
