"""The command `quantize` on the demo."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from paddlemix_qwenvl import cli
from paddlemix_qwenvl.commands import quantize as command


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in ("quantize", *arguments)])


def test_the_demo_in_four_bits_answers(tmp_path):
    Image.linear_gradient("L").convert("RGB").resize((112, 112)).save(tmp_path / "ramp.png")
    folder = tmp_path / "out"
    done = run("--method", "awq", "--calibration", tmp_path, "--output_path", folder)
    assert done.exit_code == 0, done.output
    stages = ["running the model", "writing the weights", "running the quantised model", f"wrote {folder}"]
    assert done.stderr.splitlines() == stages
    assert done.stdout.splitlines()[0] == "# demo, quantised by awq"
    assert done.stdout == (folder / "quantization_report.md").read_text()
    report = json.loads((folder / "quantization_report.json").read_text())
    assert len(report["errors"]) == 35 and 0.9 < report["likeness"]["cosine"] < 1
    asked = ("--model_path", folder, "--question", "What is this?", "--max_new_tokens", 4, "--json")
    answered = CliRunner().invoke(cli.app, ["infer", *map(str, asked)])
    assert answered.exit_code == 0 and json.loads(answered.stdout.splitlines()[-1])["token_ids"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "awq"), "error: method awq goes by what the model computes"),
        (("--group_size", "48"), "error: group_size is 48"),
        (("--calibration", "none"), "error: calibration is none, which is not there"),
        (("--model_path", "none/at/all/x"), "error: "),
    ],
)
def test_errors_are_one_line(tmp_path, arguments, message):
    done = run(*arguments, "--output_path", tmp_path / "out")
    assert done.exit_code == 1 and not done.stdout
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(command.sys.stderr, "isatty", lambda: True, raising=False)
    with command._Stages() as stages:
        for stage in ("running the model", "writing the weights"):
            stages.says(stage)
            for done in range(1, 5):
                stages.progress(done, 4)
    shown = capsys.readouterr().err
    assert "running the model: 100%" in shown and "writing the weights: 100%" in shown and " left" in shown
