"""Which processes compare.py starts, in which order, and what it makes of their reports."""

import sys
from pathlib import Path

import compare
import numpy as np
import pytest
import turns
import typer
from options import DType
from typer.testing import CliRunner
from words import SPECIAL, text_of, write_tokenizer

from paddlemix_qwenvl.models.qwen2_5_vl.tokenizer import Qwen2_5_VLTokenizer

SMALL = {"vision_start_token_id": 151652, "vision_end_token_id": 151653, "image_token_id": 151655}
VISION = {"vision_config": {"spatial_merge_size": 2}}


def report(prefill: float, vision: float = 1.0, tokens=(1, 2, 3)) -> dict:
    figures = {"load": 2.0, "vision": vision, "prefill": prefill, "decode": 0.05, "load memory": 1.0, "memory": 2.0}
    return {"versions": {"engine": "1.0"}, **figures, "tokens": list(tokens)}


def test_every_second_round_goes_backwards():
    order = []
    found = turns.in_rounds({name: lambda name=name: order.append(name) or len(order) for name in "abc"}, 3)
    assert "".join(order) == "abccbaabc"
    assert found == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}


def test_the_table_has_medians_least_figures_and_ratios_of_rounds():
    ours, theirs = [report(2.0), report(4.0), report(3.0)], [report(8.0), report(4.0), report(6.0)]
    lines = turns.table(ours, theirs, "another").splitlines()
    assert lines[0] == "| | ours, median (least) | another | theirs / ours |"
    assert "| prefill, s | 3.00 (2.00) | 6.00 (4.00) | 2.00 [1.00 to 4.00] |" in lines
    assert "| vision + prefill, s | 4.00 (3.00) | 7.00 (5.00) | 1.75 [1.00 to 3.00] |" in lines
    assert "| decode, ms/token | 50.00 (50.00) | 50.00 (50.00) | 1.00 [1.00 to 1.00] |" in lines
    assert not any(
        "vision" in line for line in turns.table([report(1.0, 0.0)], [report(1.0, 0.0)], "text").splitlines()
    )


def test_how_many_tokens_agree_is_told(capsys):
    turns.print_both([report(1.0)], [report(1.0, tokens=(1, 2, 4))], "another")
    assert "The answers agree in their first 2 of 3 tokens." in capsys.readouterr().out


@pytest.fixture
def asked(monkeypatch) -> list[tuple]:
    """What compare.py ran: the script, its interpreter, the model's folder, the dtype and the repeats."""
    calls = []

    def run(script, python, arguments):
        model, _, dtype, *_, repeats = arguments
        calls.append((script, python, Path(model).name, dtype, repeats))
        return {"reading": 20.0} if script == "run_reading.py" else report(1.0)

    monkeypatch.setattr(compare, "run", run)
    monkeypatch.setattr(compare, "make_once", lambda folder, config: 1000)
    monkeypatch.setattr(compare, "write_inputs", lambda *_: 10)
    monkeypatch.setattr(compare, "openvino_model", lambda folder, dtype, python: folder / f"ir-{dtype.value}")
    return calls


def invoke(*arguments: str):
    app = typer.Typer()
    app.command()(compare.main)
    return CliRunner().invoke(app, ["--checkpoint", "folder", *arguments])


def test_peers_go_by_turns_in_the_dtype_that_ours_is_held_against(asked):
    peers = ["--peer", "transformers", "--peer", "openvino", "--peer_python", "one", "--peer_python", "other"]
    done = invoke(*peers, "--rounds", "2", "--dtype", "bfloat16", "--dtype", "int4")
    assert done.exit_code == 0, done.output
    first = [
        ("run_reading.py", sys.executable, "folder", "32", "1"),
        ("run_ours.py", sys.executable, "folder", "bfloat16", "1"),
        ("run_transformers.py", "one", "folder", "bfloat16", "1"),
        ("run_openvino.py", "other", "ir-bfloat16", "bfloat16", "1"),
        ("run_ours.py", sys.executable, "folder", "int4", "1"),
        ("run_openvino.py", "other", "ir-int4", "int4", "1"),
    ]
    assert asked == [first[4], *first, *first[::-1]]  # what is quantised is written before
    for line in ("transformers in bfloat16", "openvino in bfloat16", "openvino in int4"):
        assert line in done.output.splitlines()
    assert "2 rounds by turns, 1 repeats in each process" in done.output
    assert "memory gave 20.0 [20.0 to 20.0] GB/s" in done.output


def test_five_rounds_beside_transformers_are_the_default(asked):
    assert invoke("--peer_python", "one").exit_code == 0
    assert [script for script, *_ in asked].count("run_ours.py") == 5
    assert [script for script, *_ in asked].count("run_transformers.py") == 5


def test_an_interpreter_for_each_peer(asked):
    done = invoke("--peer", "openvino", "--peer_python", "one", "--peer_python", "other")
    assert done.exit_code == 2 and not asked


def test_text_and_tokens_are_the_same_prompt(tmp_path):
    """What OpenVINO is given as text and a picture is what ours is given as tokens and patches."""
    length = compare.write_inputs(tmp_path / "inputs.npz", {**SMALL, **VISION}, 56, 12)
    ids = np.load(tmp_path / "inputs.npz")["input_ids"][0]
    assert length == ids.size == 12 + 4
    write_tokenizer(tmp_path)
    told = Qwen2_5_VLTokenizer.from_pretrained(tmp_path)(text_of(ids.tolist()))["input_ids"]
    pads = np.flatnonzero(ids == SMALL["image_token_id"])
    assert np.ravel(told).tolist() == np.delete(ids, pads[1:]).tolist()
    assert np.load(tmp_path / "picture.npy").shape == (56, 56, 3)
    assert min(SMALL.values()) > SPECIAL


def test_what_a_model_is_loaded_with():
    assert DType.int4.given() == {"dtype": "bfloat16", "quantization": "int4"}
    assert DType.float32.given() == {"dtype": "float32"}
