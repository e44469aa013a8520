"""The parts of first_run.sh, on the stand-in card: they find nothing wrong, and say so."""

import subprocess
from pathlib import Path

import gpu_first_run as first_run
import hub_model
from gpu_stand_in import card

from paddlemix_qwenvl import Qwen2_5_VLConfig
from paddlemix_qwenvl.ops import dispatch


def test_the_shell_reads_it():
    subprocess.run(["sh", "-n", str(Path(__file__).parent / "gpu" / "first_run.sh")], check=True)


def test_operations(capsys):
    """Every one that has a version for GPUs is among them."""
    with card((8, 0), kernels=True):
        assert first_run.operations()
        others = {"quantize_int8", "rebuild_padding", "transpose_remove_padding", "write_cache_kv"}
        assert set(dispatch.GPU) - others <= set(first_run.cases("float32"))
    table = capsys.readouterr().out
    assert "| rms_norm | float16 | " in table and "played by its definition" in table


def test_an_operation_that_is_wrong(capsys):
    with card((8, 0), kernels=True) as patch:
        patch.setattr(first_run.ops, "swiglu", lambda x: first_run.definitions.swiglu(x) * 1.1)
        assert not first_run.operations()


def test_parity(capsys):
    with card((8, 0), kernels=True):
        assert first_run.parity()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.endswith("tokens with and without a graph are the same") for line in lines)


def test_benchmark(monkeypatch, capsys):
    small = Qwen2_5_VLConfig(**hub_model.config(num_hidden_layers=1, vocab_size=1024))
    monkeypatch.setattr(Qwen2_5_VLConfig, "of_size", lambda size: small)
    monkeypatch.setattr(first_run, "REPEATS", 1)
    monkeypatch.setattr(first_run, "NEW_TOKENS", 8)
    with card((8, 0), kernels=True):
        assert first_run.benchmark("3B", None, False, "float32")
    assert capsys.readouterr().out.startswith("3B float32: 997 tokens in ")
