"""Folders that `quantize` writes, read by the formats' facts alone and by the package."""

import json
import shutil

import numpy as np
import paddle
import pytest
import quantised_files as files
from standin import loopback
from standin.stored import ENDPOINTS, HOMES, NAME, UNSET

from paddlemix_qwenvl.errors import CheckpointError, ConfigurationError
from paddlemix_qwenvl.layers.formats import Fp8
from paddlemix_qwenvl.models.auto import find_family
from paddlemix_qwenvl.quantization import scales, writing
from paddlemix_qwenvl.quantization.making import Listener, quantize
from paddlemix_qwenvl.quantization.methods import method_of
from paddlemix_qwenvl.weights.checkpoint import open_folder

FAMILIES = ("qwen2_5_vl", "qwen2_vl", "qwen_vl")
GROUPED = ("awq", "rtn")


def size(method: str) -> int | None:
    return 32 if method in GROUPED else None


def stored(folder) -> dict[str, np.ndarray]:
    """All tensors as they lie in the files."""
    checkpoint = open_folder(folder)
    return {name: np.array(checkpoint.stored(name)[0]) for name in checkpoint.names()}


def half_bytes(words: np.ndarray, places=tuple(range(8))) -> np.ndarray:
    """The reverse of `files.words`."""
    found = np.empty((words.shape[0], words.shape[1] * 8), np.int64)
    for i, place in enumerate(places):
        found[:, place::8] = words.view(np.uint32) >> np.uint32(4 * i) & np.uint32(15)
    return found


def value(method: str, tensors: dict, module: str) -> tuple[np.ndarray, np.ndarray]:
    """What the numbers of a module stand for, and the step of each."""
    held = {name.removeprefix(f"{module}."): array for name, array in tensors.items() if name.startswith(f"{module}.")}
    if method == "awq":
        q, zeros = half_bytes(held["qweight"], files.AWQ_ORDER).T, half_bytes(held["qzeros"], files.AWQ_ORDER).T
        steps = np.repeat(held["scales"].T.astype(np.float64), 32, axis=1)
        return (q - np.repeat(zeros, 32, axis=1)) * steps, steps
    steps = held["weight_scale"].astype(np.float64)
    if method == "rtn":
        q, zeros = half_bytes(held["weight_packed"]), half_bytes(held["weight_zero_point"].T).T
        assert held["weight_shape"].tolist() == list(q.shape)
        steps = np.repeat(steps, 32, axis=1)
        return (q - np.repeat(zeros, 32, axis=1)) * steps, steps
    if method == "fp8":
        values = files.float8_values()[held["weight"].view(np.uint8)] * steps
        return values, np.maximum(np.abs(values) / 8, steps * 2.0**-9)
    return held["weight"] * steps, steps


@pytest.mark.parametrize("method", ["rtn", "int8", "fp8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_by_the_facts_of_its_format(folders, tmp_path, family, method):
    folder, dense = folders[family]
    report = quantize(str(folder), tmp_path / "out", method, group_size=size(method))
    tensors, converted = stored(tmp_path / "out"), set()
    for name, weight in dense.items():
        module, _, leaf = name.rpartition(".")
        if leaf != "weight" or not files.in_decoder(module) or weight.ndim != 2:
            assert tensors[name].dtype == np.float32
            np.testing.assert_array_equal(tensors[name], weight)
            continue
        converted.add(module)
        found, steps = value(method, tensors, module)
        assert (np.abs(found - weight) <= 0.501 * steps).all(), module
        error = np.linalg.norm(found - weight) / np.linalg.norm(weight)
        assert report.errors[module] == pytest.approx(error, rel=1e-4)
    assert {*report.errors} == converted and len(converted) in (14, 10)
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            assert path.is_dir() or (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("method", ["awq", "rtn", "int8", "fp8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_is_loaded_as_the_model_that_its_numbers_stand_for(folders, lines, tmp_path, family, method):
    folder, dense = folders[family]
    quantize(str(folder), tmp_path / "out", method, lines, size(method))
    tensors, config = stored(tmp_path / "out"), json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["torch_dtype"] == ("float16" if method == "awq" else "float32")
    assert family != "qwen_vl" or (config["fp16"], config["fp32"]) == (method == "awq", method != "awq")
    wide = {}
    for name in dense:
        module = name.rpartition(".")[0]
        wide[name] = tensors[name] if name in tensors else value(method, tensors, module)[0]
        if method in ("int8", "fp8") and f"{module}.weight_scale" in tensors and name.endswith("weight"):
            wide[name] = value(method, tensors, module)[0]
    del config["quantization_config"]
    shutil.copytree(folder, tmp_path / "wide")
    (tmp_path / "wide" / "model.safetensors").unlink()
    files.write(tmp_path / "wide", config, {name: np.float32(values) for name, values in wide.items()})
    model = find_family(tmp_path / "out").load("model")
    ids = paddle.to_tensor([[5, 77, 200, 31, 8, 9, 41]])
    loaded = [
        model.from_pretrained(tmp_path / name, dtype=dtype) for name, dtype in (("out", None), ("wide", "float32"))
    ]
    found, wanted = (each.eval()(ids).logits.numpy() for each in loaded)
    assert np.abs(found - wanted).max() < (2e-2 if method == "awq" else 1e-3) * np.abs(wanted).max()


class Stopped(Exception):
    pass


class Watch(Listener):
    """Notes stages, and stops after so much of the weights."""

    def __init__(self, share: float = 2.0):
        self.stages, self.share = [], share

    def says(self, line):
        self.stages.append(line)

    def progress(self, done, total):
        assert 0 < done <= total
        if self.stages[-1] == "writing the weights" and done > self.share * total:
            raise Stopped


def test_work_that_was_interrupted_goes_on(folder, lines, tmp_path, monkeypatch):
    how = ("awq", lines, 32)
    quantize(str(folder), tmp_path / "whole", *how, shard_bytes=20_000)
    with pytest.raises(Stopped):
        quantize(str(folder), tmp_path / "out", *how, Watch(0.5), shard_bytes=20_000)
    assert not (tmp_path / "out" / "config.json").exists() and not [*(tmp_path / "out").glob(".*")]
    (tmp_path / "out" / ".unfinished-killed").mkdir()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert 2 < len([name for name in before if name.endswith(".safetensors")]) < 12
    monkeypatch.setattr(scales, "best_factors", lambda *_: pytest.fail("the scales were there"))
    quantize(str(folder), tmp_path / "out", *how, shard_bytes=20_000)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }
    for path in (tmp_path / "whole").iterdir():
        again = tmp_path / "out" / path.name
        assert path.is_dir() or again.read_bytes() == path.read_bytes()
        if path.name in before and path.suffix == ".safetensors":
            assert again.stat().st_mtime_ns == before[path.name]


def test_a_folder_without_a_processor(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "bare").mkdir(exist_ok=True)
        shutil.copy(folder / name, tmp_path / "bare")
    quantize(str(tmp_path / "bare"), tmp_path / "out", "fp8")
    model = find_family(tmp_path / "out").load("model").from_pretrained(tmp_path / "out")
    assert Fp8() in model.formats()


@pytest.mark.parametrize("method", ["int8", "awq"])
def test_a_folder_that_is_finished_is_left_as_it_is(folder, lines, tmp_path, monkeypatch, method):
    how = (method, lines, size(method))
    quantize(str(folder), tmp_path / "out", *how)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(writing, "write_safetensors", lambda *_: pytest.fail("written again"))
    monkeypatch.setattr(scales, "best_factors", lambda *_: pytest.fail("searched again"))
    quantize(str(folder), tmp_path / "out", *how)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_other_work_in_the_folder_is_refused(folder, lines, tmp_path):
    quantize(str(folder), tmp_path / "out", "rtn", group_size=32)
    for how in (("int8",), ("awq", lines, 32)):
        with pytest.raises(
            ConfigurationError, match=r"quantised otherwise, as its quantization_record.json says: delete"
        ):
            quantize(str(folder), tmp_path / "out", *how)
    (tmp_path / "int8").mkdir()
    for content in ("{", '{"settings": {}}', '{"settings": {}, "files": {"a": {"b": "c"}}}'):
        (tmp_path / "int8" / "quantization_record.json").write_text(content)
        with pytest.raises(ConfigurationError, match=r"quantization_record.json"):
            quantize(str(folder), tmp_path / "int8", "int8")
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-5}))
    with pytest.raises(ConfigurationError, match="quantised otherwise"):
        quantize(str(changed), tmp_path / "out", "rtn", group_size=32)


def test_a_folder_that_another_process_writes_is_refused(folder, tmp_path):
    class Other(Listener):
        def says(self, line):
            with pytest.raises(ConfigurationError, match="is being written by another process: wait for it"):
                quantize(str(folder), tmp_path / "out", "int8")
            raise Stopped

    with pytest.raises(Stopped):
        quantize(str(folder), tmp_path / "out", "int8", listener=Other())
    quantize(str(folder), tmp_path / "out", "int8")


def test_what_cannot_be(folder, lines, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    (tmp_path / "file").write_text("mine")
    quantize(str(folder), tmp_path / "int8", "int8")
    for arguments, message in (
        ((folder, "full", "int8"), "full is not empty: give a new folder as --output_path"),
        ((folder, "file", "int8"), "file is not empty"),
        ((folder, "new", "gguf"), "method is 'gguf': it must be one of awq, rtn, int8, fp8"),
        ((folder, "new", "awq"), "method awq goes by what the model computes: give conversations"),
        (
            (folder, "new", "rtn", None, 128),
            r"down_proj of \[64, 96\] cannot be quantised: 96 inputs are no whole groups of 128. Give --group_size 32",
        ),
        ((folder, "new", "rtn", None, 48), "group_size is 48: give a multiple of 32"),
        ((folder, "new", "rtn", None, 0), "group_size is 0: give a multiple of 32"),
        ((folder, "new", "int8", None, 32), "group_size is 32, but int8 has a scale an output: leave it out"),
        ((tmp_path / "int8", "new", "rtn"), "is quantised already, by compressed-tensors: give the model that it was"),
        ((tmp_path / "none", "new", "rtn"), "none"),
    ):
        model, output, *how = arguments
        with pytest.raises((ConfigurationError, OSError), match=message) as raised:
            quantize(str(model), tmp_path / output, *how)
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "new").exists() and (tmp_path / "full" / "notes").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "method", "bad", "message"),
    [
        ("model.layers.0.mlp.up_proj", "int8", np.nan, "that are not finite: download it again"),
        ("model.layers.0.self_attn.q_proj", "awq", 1e8, "that float16 has not: quantise with"),
        ("model.norm", "awq", 1e6, "that float16 has not: quantise with"),
    ],
)
def test_numbers_that_cannot_be_kept(folders, lines, tmp_path, name, method, bad, message):
    folder, tensors = folders["qwen2_5_vl"]
    name = f"{name}.weight"
    shutil.copytree(folder, tmp_path / "bad")
    weight = tensors[name].copy()
    weight.flat[3] = bad
    config = json.loads((folder / "config.json").read_text())
    files.write(tmp_path / "bad", config, {**tensors, name: weight})
    with pytest.raises(CheckpointError, match=message):
        quantize(str(tmp_path / "bad"), tmp_path / "out", method, lines if method == "awq" else None, size(method))
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize("source", ["paddlenlp", "huggingface"])
def test_a_model_by_name(folder, tmp_path, monkeypatch, source):
    """All that a reader needs beside the weights is fetched, and none of the marks that a cache holds is taken."""
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    for name in HOMES:
        monkeypatch.setenv(name, str(tmp_path / "homes" / name))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with loopback.hub({NAME: folder}) as (address, _):
        monkeypatch.setenv(ENDPOINTS[source], address)
        quantize(NAME, tmp_path / "out", "int8", source=source)
    quantize(str(folder), tmp_path / "local", "int8")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names <= {path.name for path in (tmp_path / "local").iterdir()}
    assert {"tokenizer.json", "preprocessor_config.json", "generation_config.json"} <= names
    for name in names - {"quantization_report.json", "quantization_report.md", "quantization_report.png"}:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
        assert not (tmp_path / "out" / name).is_symlink()


@pytest.mark.parametrize(
    "inputs, size",
    [
        ((2048, 11008), 128),
        ((3584, 18944), 128),
        ((1024, 768), 64),
        ((512, 1536), 64),
        ((128, 384), 32),
        ((96,), 32),
        ((), 128),
    ],
)
def test_rows_have_eight_groups_at_least_where_they_can(inputs, size):
    assert {method_of(name, None, inputs).group_size for name in ("awq", "rtn")} == {size}
    assert method_of("awq", 128, inputs).group_size == 128
