"""Exports that are damaged, do not fit, or fail: each ends in a clear error."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paddlemix_qwenvl.errors import ConfigurationError, DeployError
from paddlemix_qwenvl.static import export as exporter
from paddlemix_qwenvl.static.export import export
from paddlemix_qwenvl.static.loading import load_export
from paddlemix_qwenvl.static.manifest import Manifest


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def change(folder: Path, **fields) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen_vl"])
def test_serving_needs_neither_paddlenlp_nor_a_layer(folder, qwen_vl_folder, family):
    served = {"qwen2_5_vl": folder, "qwen_vl": qwen_vl_folder}[family]
    code = (
        "import sys; from paddlemix_qwenvl.static.loading import load_export\n"
        f"load_export({str(served)!r}, family={family!r}).complete('the', max_new_tokens=2)\n"
        "print([m for m in sys.modules if m.startswith(('paddlenlp', 'transformers', 'paddlemix_qwenvl.layers.linear'))"
        " or m.startswith('paddlemix_qwenvl') and m.endswith(('.model', '.language', '.vision'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["vision.pdiparams", "language.json", "tokenizer.json", "generation_config.json"])
def test_a_changed_file_is_noticed(copy, name):
    path = copy / name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DeployError, match=rf"{name} .*checksum"):
        load_export(copy)


def test_a_missing_file_is_noticed(copy):
    (copy / "language.pdiparams").unlink()
    with pytest.raises(DeployError, match=r"language.pdiparams is missing"):
        load_export(copy)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"versions": {"paddle": "2.6.2"}}, r"exported with Paddle 2\.6\.2.*export again"),
        ({"device": "gpu"}, "exported for gpu and would run on cpu"),
        ({"degree": 2}, r"exported for 2 rank.*paddle.distributed.launch --nproc_per_node 2"),
        ({"family": "qwen3_vl"}, "known are qwen2_5_vl, qwen2_vl, qwen_vl"),
        ({"compiled_ops": ["qwenvl_missing"]}, r"qwenvl_missing.*setup.py install"),
        ({"surprise": 1}, "cannot be read"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(copy, fields, message):
    with pytest.raises(DeployError, match=message):
        load_export(change(copy, **fields))


def test_operations_of_a_vision_graph_in_a_folder_of_its_own(folder, copy):
    with pytest.raises(DeployError, match=r"qwenvl_missing.*setup.py install"):
        load_export(folder, vision_folder=change(copy, compiled_ops=["qwenvl_missing"]))


def test_no_compiled_operations_at_all(copy, monkeypatch):
    monkeypatch.setitem(sys.modules, "paddlemix_qwenvl_ops", None)
    with pytest.raises(DeployError, match=r"not here .*setup.py install"):
        load_export(change(copy, compiled_ops=["qwenvl_linear"]))


def test_graphs_of_another_family_or_model(folder, qwen_vl_folder, copy):
    with pytest.raises(DeployError, match=r"export of 'qwen_vl', not of 'qwen2_5_vl'"):
        load_export(qwen_vl_folder, family="qwen2_5_vl")
    with pytest.raises(DeployError, match="do not belong together"):
        load_export(folder, vision_folder=qwen_vl_folder)
    with pytest.raises(DeployError, match="do not belong together"):
        load_export(folder, vision_folder=change(copy, model="another"))
    with pytest.raises(DeployError, match=r"export of 'tiny', not of 'Qwen/Qwen2.5-VL-3B-Instruct'"):
        load_export(folder, model="Qwen/Qwen2.5-VL-3B-Instruct")


def test_parts_in_folders_of_their_own(model, processor, tmp_path):
    for part in ("vision", "language"):
        export(model, processor, tmp_path / part, (part,), name="tiny", say=lambda line: None)
    with pytest.raises(DeployError, match="holds the language graph, not vision"):
        load_export(tmp_path / "language")
    predictor = load_export(tmp_path / "language", tmp_path / "vision", model="somewhere/tiny/")
    assert len(predictor.complete("the", max_new_tokens=3, min_new_tokens=3).token_ids) == 3


def test_the_manifest(folder, model):
    manifest = Manifest.read(folder)
    assert (manifest.family, manifest.model, manifest.parts) == ("qwen2_5_vl", "tiny", ["vision", "language"])
    assert manifest.dtype == manifest.cache["dtype"] == "float32"
    assert set(manifest.checksums) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    from paddlemix_qwenvl import ops

    compiled = ops.status()["rms_norm"].startswith("compiled")
    assert ("qwenvl_rms_norm" in manifest.compiled_ops) == compiled
    assert ("qwenvl_cached_attention" in manifest.compiled_ops) == compiled


def test_no_export_at_all(tmp_path):
    with pytest.raises(DeployError, match="paddlemix-qwenvl export"):
        load_export(tmp_path)


def test_a_folder_with_other_things_is_not_overwritten(model, processor, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DeployError, match="is no export"):
        export(model, processor, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_failed_export_leaves_what_was_there(model, processor, copy, monkeypatch):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    monkeypatch.setattr(exporter, "save_files", lambda *arguments: 1 / 0)
    for target in (copy, copy.parent / "new"):
        with pytest.raises(ZeroDivisionError):
            export(model, processor, target, say=lambda line: None)
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_a_graph_that_cannot_be_traced(model, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter.LanguageGraph, "input_spec", lambda self: [])
    with pytest.raises(DeployError, match=r"Paddle .* could not export language"):
        export(model, processor, tmp_path / "new", say=lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_a_dtype_that_is_none(hub_folder):
    with pytest.raises(ConfigurationError, match=r"dtype is 'int3'.*int8, int4, fp8"):
        exporter.load(str(hub_folder), "int3")
