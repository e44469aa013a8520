"""Placeholders."""

import numpy as np
import pytest

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.models.qwen2_5_vl.prompt import grow_placeholders


def test_placeholders_grow_to_the_tokens_of_their_pictures():
    texts = ["a<i>b<i>", "none", "<i>"]
    before = list(texts)
    grown = grow_placeholders(texts, "<i>", np.array([[1, 4, 6], [1, 2, 2], [2, 4, 4]]), 2, "image")
    assert grown == ["a" + "<i>" * 6 + "b<i>", "none", "<i>" * 8]
    assert texts == before
    assert grow_placeholders(["x"], "<i>", None, 2, "image") == ["x"]
    assert grow_placeholders(["<i>"], "<i>", [[1, 4, 4]], 1, "image") == ["<i>" * 16]


@pytest.mark.parametrize(
    ("texts", "grids", "message"),
    [
        (["<i><i>"], [[1, 2, 2]], r"has 2 image placeholders \(<i>\) but 1 images were given"),
        (["<i>", "x"], [[1, 2, 2]] * 3, r"has 1 image placeholders \(<i>\) but 3 images were given"),
        (["<i>"], None, r"has 1 image placeholders \(<i>\) but 0 images were given"),
        (["x"], [[1, 2, 2]], r"has 0 image placeholders \(<i>\) but 1 images were given"),
    ],
)
def test_more_placeholders_than_pictures_and_the_reverse(texts, grids, message):
    with pytest.raises(PromptError, match=message):
        grow_placeholders(texts, "<i>", grids, 2, "image")
