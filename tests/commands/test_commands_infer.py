"""The command `infer` and the example script, on a tiny random model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from paddlemix_qwenvl import cli
from paddlemix_qwenvl.engine.session import Assistant

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "examples" / "images" / "shapes.png"
QUESTION = "What is in this image?"


@pytest.fixture(scope="module")
def assistant(hub_folder):
    return Assistant.load(str(hub_folder), dtype="float32")


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def ask(hub_folder, *more):
    return run(
        "infer",
        "--model_path",
        hub_folder,
        "--image_file",
        PICTURE,
        "--question",
        QUESTION,
        "--dtype",
        "float32",
        *more,
    )


def test_json_is_the_last_line(hub_folder, assistant):
    result = ask(hub_folder, "--max_new_tokens", 6, "--temperature", 0, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout.splitlines()[-1])
    assert set(answer) == {"text", "token_ids", "reason", "prompt_tokens", "cached_tokens", "seconds"}
    assert set(answer["seconds"]) == {"load", "waiting", "vision", "prefill", "decode"}
    assert all(seconds > 0 for seconds in answer["seconds"].values())
    direct = assistant.ask(QUESTION, [PICTURE], max_new_tokens=6, do_sample=False)
    assert (answer["reason"], answer["cached_tokens"]) == (direct.reason, 0) == ("length", 0)
    assert answer["token_ids"] == direct.token_ids and len(direct.token_ids) == 6
    assert (answer["text"], answer["prompt_tokens"]) == (direct.text, direct.prompt_tokens)
    assert direct.text == assistant.processor.tokenizer.decode(direct.token_ids, skip_special_tokens=True)
    # 252 x 196 pixels are 9 x 7 tokens of 28 x 28.
    without_picture = assistant.ask(QUESTION, max_new_tokens=1).prompt_tokens
    assert direct.prompt_tokens - without_picture == 9 * 7 + 2


def test_a_question_that_cannot_be_encoded(hub_folder):
    """As a shell hands on bytes that are no UTF-8."""
    result = run("infer", "--model_path", hub_folder, "--question", "what \udcff?", "--max_new_tokens", 2, "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout.splitlines()[-1])["token_ids"]) == 2


def test_text_is_streamed(hub_folder, assistant):
    pieces = []
    answer = assistant.ask(QUESTION, [PICTURE], on_text=pieces.append, max_new_tokens=8, do_sample=False)
    assert len(pieces) > 1 and "".join(pieces) == answer.text
    assert ask(hub_folder, "--max_new_tokens", 8, "--temperature", 0).stdout == answer.text + "\n"


def test_the_picture_is_shown(hub_folder, tmp_path):
    result = ask(hub_folder, "--max_new_tokens", 2, "--draw", tmp_path / "answer.png")
    assert result.exit_code == 0 and f"{tmp_path}/answer.png: " in result.stdout and (tmp_path / "answer.png").is_file()
    for folder in (hub_folder, "/no/such/folder"):
        result = ask(folder, "--max_new_tokens", 2, "--draw", tmp_path / "answer.txt")
        assert result.exit_code == 1 and "answer.txt cannot be written as a picture" in result.stderr


def test_several_images_and_a_benchmark(hub_folder, assistant):
    result = ask(hub_folder, "--image_file", PICTURE, "--max_new_tokens", 2, "--benchmark", "--json")
    answer = json.loads(result.stdout.splitlines()[-1])
    one = assistant.ask(QUESTION, [PICTURE], max_new_tokens=1).prompt_tokens
    assert answer["prompt_tokens"] == one + 9 * 7 + 2
    figures = answer["benchmark"]
    assert set(figures) == {"repeats", "total", "vision", "prefill", "decode_ms_per_token", "peak_memory_gib"}
    assert 0 < figures["vision"] < figures["total"] and 0 < figures["peak_memory_gib"] < 64
    assert "decode_ms_per_token" in ask(hub_folder, "--max_new_tokens", 2, "--benchmark").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model_path", "/no/such/folder"], "/no/such/folder is not a folder"),
        (["--image_file", "no_such.png"], "no_such.png"),
        (["--max_new_tokens", 0], "max_new_tokens is 0"),
        (["--device", "abacus"], "'abacus' cannot be used"),
    ],
)
def test_errors_are_one_line(hub_folder, arguments, says):
    result = run("infer", "--model_path", hub_folder, *arguments)
    assert result.exit_code == 1 and result.stdout == ""
    assert says in result.stderr and result.stderr.startswith("error: ") and "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [["--dtype", "float8"], ["--quantization", "int3"], ["--temperature", -1]])
def test_wrong_flags_are_refused_before_anything_is_loaded(arguments):
    assert run("infer", "--model_path", "/no/such/folder", *arguments).exit_code == 2


def test_the_example_prints_nothing_but_the_answer(hub_folder, assistant):
    command = [sys.executable, ROOT / "examples" / "qwen2_5_vl" / "single_image_infer.py", "--model_path", hub_folder]
    command += ["--image_file", PICTURE, "--question", QUESTION, "--dtype", "float32"]
    command += ["--max_new_tokens", "4", "--temperature", "0", "--top_p", "0.9"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    answer = assistant.ask(QUESTION, [PICTURE], max_new_tokens=4, do_sample=False)
    assert result.stdout == answer.text + "\n" and result.stderr == ""


def test_nothing_is_imported_that_is_not_needed(hub_folder):
    """No host, and nothing for videos, pages and downloads."""
    arguments = ["infer", "--model_path", str(hub_folder), "--image_file", str(PICTURE), "--max_new_tokens", "2"]
    code = f"import sys\nfrom paddlemix_qwenvl.cli import app\napp({arguments}, standalone_mode=False)\n"
    code += "needless = {'paddlenlp', 'paddleformers', 'av', 'lxml', 'huggingface_hub', 'requests', 'tiktoken'}\n"
    code += "assert not needless & {*sys.modules}, needless & {*sys.modules}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout and not done.stderr, done.stderr
