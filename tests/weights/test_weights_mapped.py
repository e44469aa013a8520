"""Weights that lie in a file as they are to be held are left there, in memory that may be written to."""

import hub_model
import numpy as np
import paddle
import pytest
import quantised_files as files
from gpu_stand_in import card
from safetensors.numpy import save_file
from test_parallel import split_model

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.layers.linear import Linear
from paddlemix_qwenvl.weights import loading, quantised
from paddlemix_qwenvl.weights.checkpoint import open_folder
from paddlemix_qwenvl.weights.files import SafetensorsFile

MODEL = Qwen2_5_VLForConditionalGeneration


@pytest.fixture
def copied(monkeypatch) -> list:
    """The shapes of the tensors that get memory of their own."""
    shapes = []
    for module in (loading, quantised):
        monkeypatch.setattr(
            module, "empty", lambda shape, dtype, make=module.empty: shapes.append([*shape]) or make(shape, dtype)
        )
    return shapes


def test_parts_that_follow_one_upon_the_other(tmp_path):
    draws = np.random.default_rng(0)
    tensors = {name: draws.standard_normal((3, 4)).astype(np.float32) for name in "abc"}
    save_file(tensors, tmp_path / "model.safetensors")
    file = SafetensorsFile(tmp_path / "model.safetensors")
    a, b, c = (file.read(name)[0] for name in "abc")
    found = file.in_place([a, b]).view(np.float32).reshape(6, 4)
    np.testing.assert_array_equal(found, np.concatenate([tensors["a"], tensors["b"]]))
    found[...] = 0
    np.testing.assert_array_equal(file.read("a")[0], tensors["a"])
    np.testing.assert_array_equal(SafetensorsFile(tmp_path / "model.safetensors").read("b")[0], tensors["b"])
    for parts in ([a, c], [b, a], [a.T], [a[:, :2]], [a.copy()], [a[:0]]):
        assert file.in_place(parts) is None
    assert file.in_place([a[1:], b[:2]]).nbytes == 4 * 16


def test_a_checkpoint_of_the_dtype_that_is_asked_for(tmp_path, copied):
    tensors = hub_model.tensors(files.CONFIG)
    hub_model.write(tmp_path, files.CONFIG, tensors)
    model = MODEL.from_pretrained(tmp_path)
    assert copied and [*model.lm_head.weight.shape] not in copied and [64, 96] not in copied
    np.testing.assert_array_equal(model.lm_head.weight.numpy(), tensors["lm_head.weight"])
    with paddle.no_grad():
        model.lm_head.weight.zero_()
    np.testing.assert_array_equal(open_folder(tmp_path).stored("lm_head.weight")[0], tensors["lm_head.weight"])
    copied.clear()
    MODEL.from_pretrained(tmp_path, dtype="bfloat16")
    with card((8, 0)):
        MODEL.from_pretrained(tmp_path)
    assert copied.count([64, 96]) >= 4


@pytest.mark.parametrize("quantization", ["int8", "int4", "fp8"])
def test_what_the_package_saves_is_mapped(tmp_path, copied, quantization):
    """All but zeros, which lie in words of eight outputs."""
    files.write(tmp_path / "wide", files.CONFIG, hub_model.tensors(files.CONFIG))
    MODEL.from_pretrained(tmp_path / "wide", quantization=quantization, dtype="bfloat16").save_pretrained(tmp_path)
    copied.clear()
    again = MODEL.from_pretrained(tmp_path)
    held = [layer for layer in again.sublayers() if isinstance(layer, Linear)]
    zeros = [[*layer.zeros.shape] for layer in held if getattr(layer.format, "has_zeros", False)]
    assert sorted(copied) == sorted(zeros)
    starts = {first % 64 for _, _, first, _ in SafetensorsFile(tmp_path / "model.safetensors").tensors.values()}
    assert 0 in starts


def test_columns_of_a_rank_are_put_together(tmp_path, copied):
    """Columns of a weight are no stretch of a file."""
    narrow, _ = files.converted(hub_model.tensors(files.CONFIG), lambda name, w: files.int8(w), files.in_decoder)
    folder = files.write(tmp_path, {**files.CONFIG, "quantization_config": files.METHODS["int8"]}, narrow)
    split_model(folder, 2)
    assert copied.count([64, 48]) == 4
