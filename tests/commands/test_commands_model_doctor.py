"""What `doctor --model_path` says of good and of broken folders."""

import json

import hub_model
import numpy as np
import pytest
import qwen_vl_model
from reference import tokenizer_files
from reference.qwen_vl import qwen_vl_cases
from standin.folders import write
from standin.tiny import write_tiny_model
from typer.testing import CliRunner

from paddlemix_qwenvl import cli
from paddlemix_qwenvl.commands import machine_doctor, model_doctor
from paddlemix_qwenvl.weights.checkpoint import open_folder

CONFIG = hub_model.config()
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def folder(hub_tensors, tmp_path):
    """A function that writes a whole model whose tensors are changed by `changes`."""

    def make(**changes):
        hub_model.write(tmp_path, CONFIG, {**hub_tensors, **changes})
        return tmp_path

    return make


def faults(folder) -> list[str]:
    found = [finding for finding in model_doctor.examine(str(folder)) if finding.fatal]
    assert all(finding.remedy for finding in found)
    return [f"{finding.subject}: {finding.found}" for finding in found]


def weight_faults(folder) -> list[str]:
    return [fault for fault in faults(folder) if fault.startswith("weights")]


def test_good_folders(tmp_path):
    tiny = write_tiny_model(tmp_path / "tiny")
    qwen_vl = qwen_vl_cases.CONFIGS["narrow"]
    qwen_vl = qwen_vl_model.write(_made(tmp_path / "qwen_vl"), qwen_vl, qwen_vl_cases.tensors(qwen_vl))
    for good in (tiny, qwen_vl):
        findings = list(model_doctor.examine(str(good)))
        assert [finding.subject for finding in findings] == [
            "config.json",
            "generation_config.json",
            "tokenizer, processor",
            "weights",
        ]
        assert not any(finding.remedy for finding in findings)


def _made(folder):
    folder.mkdir()
    return folder


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_numbers_that_are_none(folder, hub_tensors, dtype):
    spoilt = {Q_PROJ: hub_tensors[Q_PROJ].astype(dtype), "model.norm.weight": hub_tensors["model.norm.weight"].copy()}
    spoilt[Q_PROJ][3, 5:7] = np.nan
    spoilt[Q_PROJ][0, 0] = -np.inf
    spoilt["model.norm.weight"][-1] = np.inf
    file = folder(**spoilt) / "model.safetensors"
    assert weight_faults(file.parent) == [
        f"weights: {file}: tensor {Q_PROJ!r} holds 3 numbers that are NaN or infinite",
        f"weights: {file}: tensor 'model.norm.weight' holds 1 numbers that are NaN or infinite",
    ]


def test_bfloat16_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(model_doctor, "BLOCK", 16)
    bits = np.full((7, 9), 0x3F80, np.uint16)
    bits[6, 8], bits[0, 0], bits[3, 3], bits[1, 1] = 0x7FC0, 0xFF80, 0x7F7F, 0xFFFF
    header = {"x": {"dtype": "BF16", "shape": [7, 9], "data_offsets": [0, 126]}, "__metadata__": {"format": "pt"}}
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bits.tobytes())
    assert model_doctor.count_not_finite(open_folder(tmp_path), "x") == 3


def test_names_and_shapes(folder):
    wrong = folder(**{Q_PROJ: np.zeros((48, 47), np.float32), "x": np.zeros(3, np.float32)})
    assert weight_faults(wrong) == [
        "weights: 1 tensors unexpected (x in model.safetensors)",
        f"weights: {wrong}/model.safetensors: tensor {Q_PROJ!r} has shape [48, 47], the model needs [48, 48]: config.json and "
        f"the weights are not of the same model.",
    ]


def test_many_faults_are_cut(folder, hub_tensors, monkeypatch):
    monkeypatch.setattr(model_doctor, "SHOWN", 2)
    spoilt = {name: value * np.float32("nan") for name, value in hub_tensors.items()}
    found = weight_faults(folder(**spoilt))
    assert len(found) == 3 and found[2] == f"weights: and {len(hub_tensors) - 2} faults more"


def test_settings_files(folder):
    where = folder()
    (where / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": "many"}))
    (where / "generation_config.json").write_text('{"top_p": 2}')
    (where / "tokenizer_config.json").write_text("{")
    found = faults(where)
    assert found[0] == f'config.json: {where}/config.json: vocab_size is "many", expected a valid integer.'
    assert found[1].startswith(f"generation_config.json: {where}/generation_config.json: top_p is 2, expected")
    assert found[2].startswith("tokenizer, processor: ")


def test_what_is_no_model_of_ours(tmp_path):
    assert faults(tmp_path / "none") == [f"model: {tmp_path / 'none'} is not a folder"]
    assert "holds no config.json" in faults(tmp_path)[0]
    other = write(tmp_path / "other", {"config.json": {"model_type": "qwen3_vl"}})
    assert 'says model_type "qwen3_vl" (Qwen3-VL), which this package does not have' in faults(other)[0]
    adapter = write(tmp_path / "adapter", {"adapter_config.json": {"peft_type": "LORA"}})
    assert "holds a PEFT adapter (LORA)" in faults(adapter)[0]


def test_the_command(folder, hub_tensors, monkeypatch):
    monkeypatch.setattr(machine_doctor, "diagnose", lambda: [])
    where = folder(**{Q_PROJ: hub_tensors[Q_PROJ] * np.float32("nan")})
    with_tokenizer(where)
    result = CliRunner().invoke(cli.app, ["doctor", "--model_path", str(where)])
    assert result.exit_code == 1 and f"tensor {Q_PROJ!r} holds 2304 numbers" in result.output
    assert "inference would fail: 1 failures, 0 warnings" in result.output


def with_tokenizer(folder):
    """The files that the processor wants."""
    from unittest import mock

    with mock.patch.object(tokenizer_files, "read_ranks", lambda count: hub_model.RANKS):
        tokenizer_files.write_tokenizer_files(folder)
