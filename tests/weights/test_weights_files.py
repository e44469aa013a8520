"""Pickled weights of PyTorch and Paddle. torch_tensors.bin is what `torch.save` of 2.13.0 made of views, a
parameter and an empty tensor."""

import json
import os
import pickle
import shutil
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest

from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.weights.checkpoint import open_folder
from paddlemix_qwenvl.weights.files import PdparamsFile, TorchFile

GOLDEN = Path(__file__).with_name("torch_tensors.bin")
BASE = np.arange(24, dtype=np.float32).reshape(4, 6)
EXPECTED = {
    "plain": BASE,
    "turned": BASE.T,
    "part": BASE[1:3, 2:5],
    "half": BASE.astype(np.float16) / np.float16(3),
    "scalar": np.float32(5),
    "empty": np.zeros([0, 3], np.float32),
    "parameter": BASE[:, 1] + np.float32(0.5),
    "ints": np.arange(5),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_tensors(name):
    found, is_bfloat16 = TorchFile(GOLDEN).read(name)
    assert found.dtype == EXPECTED[name].dtype and not is_bfloat16
    np.testing.assert_array_equal(found, EXPECTED[name])


def test_bfloat16():
    file = TorchFile(GOLDEN)
    bits, is_bfloat16 = file.read("bfloat16")
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    assert is_bfloat16
    np.testing.assert_allclose(values, BASE / 3, rtol=2**-8)
    file.release("bfloat16")
    np.testing.assert_array_equal(file.read("bfloat16")[0], bits)


def test_what_is_no_tensor_is_left_out():
    assert TorchFile(GOLDEN).tensors.keys() == {*EXPECTED, "bfloat16"}  # not the number "step"


def test_a_folder_with_an_index(tmp_path):
    shutil.copy(GOLDEN, tmp_path / "pytorch_model-00001-of-00001.bin")
    weight_map = dict.fromkeys(["plain", "part"], "pytorch_model-00001-of-00001.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match=r"of-00001\.bin is not loaded, because reading it runs pickle"):
        open_folder(tmp_path)
    found, _ = open_folder(tmp_path, allow_pickle=True).read("plain", (4, 6), (slice(1, 3), slice(0, 2)), linear=True)
    np.testing.assert_array_equal(found, BASE[1:3, :2])


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ZipFile("pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"x": Harm()}, protocol=2))
    with pytest.raises(CheckpointError, match=r"it holds posix\.mkdir, which is no tensor"):
        TorchFile(Path("pytorch_model.bin"))
    assert not Path("harm").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", GOLDEN.read_bytes()[:2000]], ids=["empty", "garbage", "cut"])
def test_garbage(tmp_path, content):
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is not a readable PyTorch file"):
        open_folder(tmp_path, allow_pickle=True)


def test_numbers_that_cannot_be_mapped(tmp_path):
    """An archive that somebody packed again."""
    path = tmp_path / "pytorch_model.bin"
    with ZipFile(GOLDEN) as old, ZipFile(path, "w", ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(CheckpointError, match=r"tensor 'plain' of \[4, 6\] is not all there"):
        TorchFile(path).read("plain")


def paddle_state():
    import paddle

    return {"a": paddle.to_tensor(BASE), "b": paddle.to_tensor(BASE).astype("bfloat16"), "step": 3}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", ["state", "nested", "parameters"])
def test_what_paddle_saves(tmp_path, protocol, kind):
    import paddle

    state = paddle_state()
    if kind == "nested":
        state["other"] = {"deep": [state["a"]]}  # Paddle then pickles each tensor by itself
    if kind == "parameters":
        state = {"a": paddle.nn.Linear(4, 6).weight, "b": state["b"]}
        state["a"].set_value(BASE)
    paddle.save(state, str(tmp_path / "model_state.pdparams"), protocol=protocol)
    file = PdparamsFile(tmp_path / "model_state.pdparams")
    assert file.tensors.keys() == {"a", "b"}
    np.testing.assert_array_equal(file.read("a")[0], BASE)
    bits, is_bfloat16 = file.read("b")
    assert is_bfloat16 and ((bits.astype(np.uint32) << 16).view(np.float32) == BASE).all()


def test_an_array_in_parts(tmp_path):
    state = {f"a@@.{part}": rows.flatten() for part, rows in enumerate(np.split(BASE, 2))}
    state["UnpackBigParamInfor@@"] = {"a": {"OriginShape": BASE.shape, "slices": list(state)}}
    (tmp_path / "model_state.pdparams").write_bytes(pickle.dumps(state, protocol=2))
    file = PdparamsFile(tmp_path / "model_state.pdparams")
    assert file.tensors.keys() == {"a"}
    np.testing.assert_array_equal(file.read("a")[0], BASE)


def test_code_in_a_pdparams_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model_state.pdparams").write_bytes(pickle.dumps({"x": Harm()}))
    with pytest.raises(CheckpointError, match=r"it holds posix\.mkdir, which is no array"):
        PdparamsFile(Path("model_state.pdparams"))
    assert not Path("harm").exists()
