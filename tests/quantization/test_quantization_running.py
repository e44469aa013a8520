"""A model of which one block at a time is in memory, against the model."""

import gc
import weakref
from contextlib import nullcontext

import numpy as np
import paddle
import pytest
from cpu_paths import assert_split_alike, split_error

from paddlemix_qwenvl.quantization.calibration import Calibration
from paddlemix_qwenvl.quantization.making import quantize
from paddlemix_qwenvl.quantization.running import answer_logits
from paddlemix_qwenvl.quantization.source import Source


def whole(source: Source):
    return source.family.load("model").from_pretrained(source.folder).eval()


def logits_of(model, sample) -> np.ndarray:
    """By the whole model, with the features that its own encoder gives."""
    ids = paddle.to_tensor(sample.prompt.token_ids[None])
    inputs = {name: paddle.to_tensor(array) for media in sample.prompt.media for name, array in media.inputs.items()}
    names = {"pixels": "pixel_values", "grid_thw": "image_grid_thw"}
    return (
        model(ids, **{names.get(name, name): value for name, value in inputs.items()})
        .logits[0][sample.answering]
        .numpy()
    )


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen2_vl", "qwen_vl"])
def test_logits_are_those_of_the_model(folders, lines, family):
    source, seen = Source.open(folders[family][0]), []
    samples = Calibration.read(lines).samples(source)
    assert [len(each.prompt.media) for each in samples] == [1, 0, 0]
    found = answer_logits(source, samples, lambda *done: seen.append(done)).numpy()
    assert seen == [(1, 2), (2, 2)]
    wanted = np.concatenate([logits_of(whole(source), each) for each in samples])
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("method", ["rtn", "int8", "fp8"])
def test_logits_of_a_quantised_model(folder, lines, tmp_path, method):
    quantize(str(folder), tmp_path / "out", method)
    source = Source.open(tmp_path / "out")
    samples = Calibration.read(lines).samples(source)[1:]
    found = answer_logits(source, samples, lambda *_: None).numpy()
    model, rows = whole(source), min(len(each.prompt.token_ids) for each in samples)
    wanted = np.concatenate([logits_of(model, each) for each in samples])
    assert_split_alike(found, wanted, split_error(model, {"rtn": "int4"}.get(method, method), rows, wanted))


def test_a_block_is_gone_when_the_next_one_comes(folder, lines):
    source, alive = Source.open(folder), []

    def watch(path, block):
        gc.collect()
        assert not [each for each in alive if each() is not None]
        alive.append(weakref.ref(block))
        assert path == f"model.layers.{len(alive) - 1}"
        return nullcontext()

    answer_logits(source, Calibration.read(lines).samples(source), lambda *_: None, watch)
    assert len(alive) == 2
