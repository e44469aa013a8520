"""Batches are read by key and by attribute, and are copied and pickled whole."""

import copy
import pickle

import numpy as np
import pytest

from paddlemix_qwenvl.errors import ConfigurationError, PromptError
from paddlemix_qwenvl.models.batch import BatchFeature, tensors


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda batch: pickle.loads(pickle.dumps(batch))])
def test_a_copy_is_a_batch(again):
    batch = again(BatchFeature(input_ids=[[1, 2]]))
    assert type(batch) is BatchFeature
    assert batch.input_ids == batch["input_ids"] == [[1, 2]]


def test_a_missing_name_is_told():
    with pytest.raises(AttributeError, match="no 'pixel_values': it holds input_ids"):
        BatchFeature(input_ids=[1]).pixel_values  # noqa: B018


def test_floats_are_float32_and_sizes_stay_lists():
    batch = tensors({"pixel_values": [[0.5]], "resized_sizes": [(28, 56)]}, "np")
    assert batch.pixel_values.dtype == np.float32
    assert batch.resized_sizes == [(28, 56)]


def test_what_makes_no_tensor_is_refused():
    with pytest.raises(PromptError, match="padding=True"):
        tensors({"input_ids": [[1], [1, 2]]}, "np")
    with pytest.raises(ConfigurationError, match="'pt'"):
        tensors({"input_ids": [[1]]}, "pt")
