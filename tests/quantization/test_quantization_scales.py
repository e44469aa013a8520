"""Factors that change no product, and those that are found."""

import json

import numpy as np
import paddle
import pytest
import quantised_files as files
from paddle import nn

from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.layers.linear import Linear
from paddlemix_qwenvl.layers.rounding import to_int4
from paddlemix_qwenvl.quantization.calibration import Calibration
from paddlemix_qwenvl.quantization.folds import Fold
from paddlemix_qwenvl.quantization.methods import widened
from paddlemix_qwenvl.quantization.running import answer_logits
from paddlemix_qwenvl.quantization.scales import Scales
from paddlemix_qwenvl.quantization.search import Trial, best_factors
from paddlemix_qwenvl.quantization.source import Source


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen2_vl", "qwen_vl"])
def test_what_is_folded_changes_no_product(folders, lines, tmp_path, monkeypatch, family):
    """Whatever the factors are."""
    draws = np.random.default_rng(0)

    def drawn(fold, inputs, group_size):
        factors = draws.uniform(0.5, 2, fold.share.max() + 1).astype(np.float32)
        return factors, to_int4(fold.layer.weight.astype("float16"), group_size)

    monkeypatch.setattr("paddlemix_qwenvl.quantization.scales._best", drawn)
    folder, tensors = folders[family]
    source = Source.open(folder)
    samples = Calibration.read(lines).samples(source)
    scales = Scales(tmp_path / "scales")
    found = answer_logits(source, samples, lambda *_: None, lambda *block: scales.watch(*block, group_size=32)).numpy()
    assert {*scales.columns} == {*source.modules}
    config = (folder / "config.json").read_text()
    folded = {name: np.float32(scales.applied(name, values)) for name, values in tensors.items()}
    changed = {name for name, values in folded.items() if not np.array_equal(values, tensors[name])}
    assert changed == {name for name in tensors if scales.touches(name)}
    assert {f"{module}.weight" for module in source.modules} < changed
    other = files.write(tmp_path / "folded", json.loads(config), folded)
    for path in folder.iterdir():
        if path.is_file() and path.name not in ("config.json", "model.safetensors"):
            (other / path.name).write_bytes(path.read_bytes())
    again = answer_logits(Source.open(other), samples, lambda *_: None).numpy()
    assert np.abs(again - found).max() < 1e-4 * np.abs(found).max()
    for module in source.modules:
        name = f"{module}.weight"
        np.testing.assert_allclose(scales.undone(module, folded[name]), tensors[name], rtol=1e-5, atol=1e-7)


def test_they_are_kept_block_by_block(folder, lines, tmp_path, monkeypatch):
    source, scales = Source.open(folder), Scales(tmp_path / "scales")
    samples, again = Calibration.read(lines).samples(source), Scales(tmp_path / "scales")
    answer_logits(source, samples, lambda *_: None, lambda *block: scales.watch(*block, group_size=32))
    assert {path.name for path in (tmp_path / "scales").iterdir()} == {"model.layers.0.npz", "model.layers.1.npz"}
    monkeypatch.setattr("paddlemix_qwenvl.quantization.scales.best_factors", None)
    answer_logits(source, samples, lambda *_: None, lambda *block: again.watch(*block, group_size=32))
    assert again.files == scales.files and {*scales.files} == {*source.modules}
    for kind in ("columns", "rows"):
        found, wanted = getattr(again, kind), getattr(scales, kind)
        assert {*found} == {*wanted}
        for name, values in wanted.items():
            np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"nothing"])
def test_a_file_that_is_none(tmp_path, content):
    (tmp_path / "block.npz").write_bytes(content)
    with (
        pytest.raises(CheckpointError, match=r"block.npz cannot be read .*: delete it, and start again"),
        Scales(tmp_path).watch("block", nn.Layer(), 32),
    ):
        pass


def test_inputs_that_carry_much_are_rounded_less():
    draws, share = np.random.default_rng(0), np.arange(64) // 2
    layer = Linear(64, 48, bias=False)
    layer.weight.set_value(draws.standard_normal([48, 64]).astype("float32"))
    sizes = np.where(share % 8 == 3, 40.0, 1.0)
    x = paddle.to_tensor((draws.standard_normal([300, 64]) * sizes).astype("float32"))
    fold = Fold(layer, layer, {"layer": slice(0, 48)}, ("norm", 32), slice(0, 32), share)
    factors = best_factors(Trial(fold, [(x[:100],), (x[100:],)]), x.abs().mean(0), 32)
    assert factors.shape == [32] and int(factors.argmax()) % 8 == 3
    columns, wanted = factors.numpy()[share], nn.functional.linear(x, layer.weight.T)
    errors = [
        float((x @ (widened(to_int4(layer.weight * part, 32)) / part).T - wanted).square().mean())
        for part in (paddle.to_tensor(columns), paddle.ones([64]))
    ]
    assert errors[0] < 0.7 * errors[1]
