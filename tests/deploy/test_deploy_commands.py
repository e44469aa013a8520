"""The commands `export` and `predict`, and the example scripts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from paddlemix_qwenvl import cli
from paddlemix_qwenvl.deploy import commands

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "examples" / "images" / "shapes.png"
ASKED = ("--image_file", PICTURE, "--question", "What?", "--max_new_tokens", 6, "--json")


@pytest.fixture(autouse=True)
def hosts_as_loud_as_before(monkeypatch):
    """The commands silence Python's warnings, PaddleNLP's logger and Paddle's for their process; here that is the tests' own."""
    import paddlenlp.utils.log  # noqa: F401

    monkeypatch.setattr(cli, "quiet_hosts", lambda: None)
    monkeypatch.setattr(commands.warnings, "simplefilter", lambda action: None)
    monkeypatch.setenv("GLOG_minloglevel", "2")


def run(app, *arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def script(command) -> typer.Typer:
    app = typer.Typer()
    app.command()(command)
    return app


def last_line(result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_export_and_predict_answer_as_infer_does(hub_folder, tmp_path):
    exported = run(cli.app, "export", "--model_path", hub_folder, "--output_path", tmp_path / "export")
    assert exported.exit_code == 0, exported.output
    assert "exporting the vision graph" in exported.stderr and not exported.stdout
    expected = last_line(run(cli.app, "infer", "--model_path", hub_folder, *ASKED))
    found = last_line(run(cli.app, "predict", "--model_path", tmp_path / "export", *ASKED, "--benchmark"))
    for name in ("token_ids", "prompt_tokens"):
        assert found[name] == expected[name]
    assert set(found["seconds"]) == {"load", "vision", "prefill", "decode"}
    figures = {"repeats", "total", "vision", "prefill", "decode_ms_per_token", "peak_memory_gib"}
    assert set(found["benchmark"]) == figures


def test_the_three_scripts_of_a_family(hub_folder, tmp_path):
    vision, language = tmp_path / "encode_image" / "vision", tmp_path / "encode_text"
    given = ("--model_name_or_path", hub_folder)
    done = run(script(commands.export_image_encoder), *given, "--save_path", vision)
    assert done.exit_code == 0, done.output
    done = run(script(commands.export_language_model), *given, "--output_path", language, "--dtype", "int8")
    assert done.exit_code == 0, done.output
    command = [sys.executable, ROOT / "examples" / "qwen2_5_vl" / "run_static_predict.py", *given, *ASKED]
    command += ["--first_model_path", vision, "--second_model_path", language]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert len(json.loads(shown.stdout.splitlines()[-1])["token_ids"]) <= 6
    for family, message in (("qwen_vl", "not of 'qwen_vl'"), ("qwen2_5_vl", "not of 'another'")):
        arguments = ("--first_model_path", vision, "--second_model_path", language, "--model_name_or_path", "another")
        refused = run(script(commands.predict_command(family)), *arguments, *ASKED)
        assert refused.exit_code == 1 and message in refused.stderr


def test_a_picture_or_a_folder_that_is_not_there(folder, tmp_path):
    refused = run(cli.app, "predict", "--model_path", tmp_path, *ASKED)
    assert refused.exit_code == 1 and refused.stderr.startswith(f"error: {tmp_path} holds no export")
    refused = run(cli.app, "predict", "--model_path", folder, "--image_file", "nowhere.png")
    assert refused.exit_code == 1 and refused.stderr.startswith("error: nowhere.png")
