"""The commands `export` and `predict`, one after the other, and the example scripts' commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hub_model
import pytest
import typer
from reference.qwen_vl import qwen_vl_cases
from typer.testing import CliRunner

from paddlemix_qwenvl import cli
from paddlemix_qwenvl.commands import export
from paddlemix_qwenvl.commands.predict import predict_command
from paddlemix_qwenvl.errors import DeployError
from paddlemix_qwenvl.static import manifest
from paddlemix_qwenvl.static.manifest import Manifest

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "examples" / "images" / "shapes.png"
ASKED = ("--image_file", PICTURE, "--question", "What?", "--max_new_tokens", 6, "--json")


def run(app, *arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def script(command) -> typer.Typer:
    app = typer.Typer()
    app.command()(command)
    return app


@pytest.fixture(scope="module")
def exported(hub_folder, tmp_path_factory):
    """An export of the tiny model, as the command wrote it."""
    folder = tmp_path_factory.mktemp("exported") / "export"
    done = run(cli.app, "export", "--model_path", hub_folder, "--output_path", folder)
    assert done.exit_code == 0, done.output
    assert "exporting the vision graph" in done.stderr and not done.stdout
    return folder


def last_line(result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_export_and_predict_answer_as_infer_does(hub_folder, exported):
    expected = last_line(run(cli.app, "infer", "--model_path", hub_folder, *ASKED))
    found = last_line(run(cli.app, "predict", "--model_path", exported, *ASKED, "--benchmark"))
    for name in ("token_ids", "prompt_tokens", "reason", "cached_tokens"):
        assert found[name] == expected[name]
    assert set(found) == {*expected, "benchmark"} and set(found["seconds"]) == set(expected["seconds"])
    figures = {"repeats", "total", "vision", "prefill", "decode_ms_per_token", "peak_memory_gib"}
    assert set(found["benchmark"]) == figures


def test_predict_has_all_that_infer_has(hub_folder, exported, tmp_path):
    """Streaming, stop strings, drawings, sampling; and a cache that is said."""
    question = (
        "--image_file",
        PICTURE,
        "--question",
        "What?",
        "--max_new_tokens",
        12,
        "--temperature",
        1.5,
        "--seed",
        3,
    )
    whole = last_line(run(cli.app, "predict", "--model_path", exported, *question, "--json"))
    stop = whole["text"][2:4]
    streamed, asked = (
        run(cli.app, command, "--model_path", folder, *question, "--stop", stop, "--draw", tmp_path / f"{command}.png")
        for command, folder in (("predict", exported), ("infer", hub_folder))
    )
    text, drawn = streamed.stdout.splitlines()
    assert stop in text and len(text) < len(whole["text"]) and whole["text"].startswith(text.strip())
    assert drawn.startswith(f"{tmp_path}/predict.png: ") and (tmp_path / "predict.png").is_file()
    assert asked.stdout == streamed.stdout.replace("predict.png", "infer.png")
    refused = run(cli.app, "predict", "--model_path", exported, *question, "--kv_cache_gib", 0)
    assert refused.exit_code == 1 and refused.stderr.startswith("error: kv_cache_gib is 0: give from ")


def test_a_chat_with_an_export(hub_folder, exported):
    def chat(folder, *options):
        given = ["chat", "--model_path", folder, "--json", "--max_new_tokens", 8, *options]
        lines = f"/image {PICTURE}\nWhat?\nAnd now?\n"
        return CliRunner().invoke(cli.app, [str(word) for word in given], input=lines)

    found, wanted = ([json.loads(line) for line in chat(each).stdout.splitlines()] for each in (exported, hub_folder))
    for name in ("token_ids", "prompt_tokens", "cached_tokens"):
        assert [each[name] for each in found] == [each[name] for each in wanted]
    assert found[1]["cached_tokens"] > 0 == found[0]["cached_tokens"]
    refused = chat(exported, "--dtype", "float16")
    error = f"error: {exported} is an export, which is as it was exported: leave out --dtype.\n"
    assert refused.exit_code == 1 and refused.stderr == error


def test_the_three_scripts_of_a_family(hub_folder, tmp_path):
    vision, language = tmp_path / "encode_image" / "vision", tmp_path / "encode_text"
    given = ("--model_name_or_path", hub_folder)
    done = run(script(export.export_image_encoder), *given, "--save_path", vision)
    assert done.exit_code == 0, done.output
    done = run(script(export.export_language_model), *given, "--output_path", language, "--dtype", "int8")
    assert done.exit_code == 0, done.output
    command = [sys.executable, ROOT / "examples" / "qwen2_5_vl" / "run_static_predict.py", *given, *ASKED]
    command += ["--first_model_path", vision, "--second_model_path", language]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    shown = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert len(json.loads(shown.stdout.splitlines()[-1])["token_ids"]) <= 6
    for family, message in (("qwen_vl", "not of 'qwen_vl'"), ("qwen2_5_vl", "not of 'another'")):
        arguments = ("--first_model_path", vision, "--second_model_path", language, "--model_name_or_path", "another")
        refused = run(script(predict_command(family)), *arguments, *ASKED)
        assert refused.exit_code == 1 and message in refused.stderr


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_prefix_is_a_folder_in_the_output_path(hub_folder, tmp_path, slash):
    language = f"{tmp_path}/encode_text{slash}"
    given = ("--model_name_or_path", f"{hub_folder}{slash}", "--output_path", language, "--model_prefix", "qwen")
    done = run(script(export.export_language_model), *given, "--model_type", "qwen2_5_vl-img2txt", "--dtype", "float16")
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "encode_text").iterdir()] == ["qwen"]
    written = Manifest.read(f"{language}{slash}/qwen{slash}")
    assert (written.dtype, written.parts, written.model) == ("float16", ["language"], hub_folder.name)
    with pytest.raises(DeployError, match=rf"encode_text holds no export .*: give {tmp_path}/encode_text/qwen\."):
        Manifest.read(language)
    refused = run(script(export.export_language_model), "--model_name_or_path", hub_folder, "--output_path", language)
    assert refused.exit_code == 1 and "is no export, or holds others: give another folder" in refused.stderr
    assert (tmp_path / "encode_text" / "qwen" / "manifest.json").is_file()


@pytest.mark.parametrize("prefix", ["a/b", "..", "/qwen", "qwen/"])
def test_a_prefix_that_is_no_name(prefix):
    refused = run(script(export.export_language_model), "--model_prefix", prefix)
    assert refused.exit_code == 1 and refused.stderr.startswith(f"error: --model_prefix is '{prefix}': give one name")


def test_a_model_type_that_does_not_fit(tmp_path):
    """Known from the config alone: there are no weights."""
    families = {"qwen2_5_vl": hub_model.config(), "qwen": qwen_vl_cases.CONFIGS["wide"]}
    for name, config in families.items():
        folder = hub_model.write_config(tmp_path / name, config)
        for given in ("llama-img2txt", *(f"{other}-img2txt" for other in families if other != name)):
            arguments = ("--model_name_or_path", folder, "--output_path", tmp_path / "out", "--model_type", given)
            refused = run(script(export.export_language_model), *arguments)
            error = f"error: model_type is '{given}', but {folder} is of '{name}': give {name}-img2txt."
            assert refused.exit_code == 1 and refused.stderr.splitlines()[-1] == error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("called", [[], ["qwenvl_linear"]])
def test_an_inference_model_says_if_it_is_of_plain_paddle(hub_folder, tmp_path, monkeypatch, called):
    monkeypatch.setattr(manifest, "compiled_operations", lambda folder: called)
    given = ("--model_name_or_path", hub_folder, "--output_path", tmp_path / "out", "--inference_model")
    done = run(script(export.export_language_model), *given)
    assert done.exit_code == 0, done.output
    assert ("the graph is of plain Paddle" in done.stderr) == (not called)


def test_a_picture_or_a_folder_that_is_not_there(exported, tmp_path):
    refused = run(cli.app, "predict", "--model_path", tmp_path, *ASKED)
    assert refused.exit_code == 1 and refused.stderr.startswith(f"error: {tmp_path} holds no export")
    refused = run(cli.app, "predict", "--model_path", exported, "--image_file", "nowhere.png")
    assert refused.exit_code == 1 and refused.stderr.startswith("error: nowhere.png")
