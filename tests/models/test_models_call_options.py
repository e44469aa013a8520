"""Keyword arguments of calls, sorted and checked."""

import numpy as np
import pytest

from paddlemix_qwenvl.errors import ConfigurationError, PromptError
from paddlemix_qwenvl.models.call_options import check_names, check_text, plain_options, split_options

GROUPS = {"text_kwargs": ("padding", "side"), "images_kwargs": ("size", "side", "return_tensors")}


def test_options_are_sorted():
    """Alone to every group that knows them, in a dict to their group, the common ones wherever nothing else is said."""
    given = {
        "side": 1,
        "padding": None,
        "images_kwargs": {"size": np.int64(2)},
        "common_kwargs": {"side": 3, "padding": True},
    }
    assert split_options(given, GROUPS, "it") == {
        "text_kwargs": {"padding": True, "side": 1},
        "images_kwargs": {"side": 1, "size": 2},
    }
    assert split_options({}, GROUPS, "it") == {"text_kwargs": {}, "images_kwargs": {}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sise": 1}, r"'sise' is no setting of it \(did you mean 'si.e'\?\): choose from padding, side, size"),
        ({"text_kwargs": {"size": 1}}, "'size' is no setting of it's text_kwargs"),
        ({"common_kwargs": {"x": 1}}, "'x' is no setting of it's common_kwargs"),
        ({"audio_kwargs": {}}, "'audio_kwargs' is no setting of it"),
        ({"text_kwargs": 5}, "text_kwargs is 5, expected a dict"),
        ({"side": 1, "images_kwargs": {"side": 2}}, "'side' is given twice, alone and in images_kwargs"),
    ],
)
def test_options_that_nobody_knows(given, message):
    with pytest.raises(ConfigurationError, match=message):
        split_options(given, GROUPS, "it")


def test_names():
    check_names(["a"], ("a", "b"), "it")
    with pytest.raises(ConfigurationError, match=r"'colour' is no setting of it: choose from a, b\."):
        check_names(["colour"], ("a", "b"), "it")


def test_numpy_s_numbers_are_numbers():
    found = plain_options({"a": np.float32(0.5), "b": np.bool_(True), "c": None, "d": "x"})
    assert found == {"a": 0.5, "b": True, "d": "x"} and type(found["a"]) is float and type(found["b"]) is bool


@pytest.mark.parametrize("text", [None, 5, b"a", ["a", None], [["a", ["b", 3]]]], ids=str)
def test_what_is_no_text(text):
    with pytest.raises(PromptError, match="give a text, or a list of texts"):
        check_text(text)


@pytest.mark.parametrize("text", ["caf\udce9", ["a", ["\ud800"]]], ids=repr)
def test_text_that_utf_8_cannot_write(text):
    with pytest.raises(PromptError, match="UTF-8 cannot write"):
        check_text(text)
    check_text(["café", ("🐱", "")])
