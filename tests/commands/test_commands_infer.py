"""The command `infer` and the example script, on a tiny random model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import qwen_vl_model
from reference.qwen_vl import qwen_vl_cases
from typer.testing import CliRunner

from paddlemix_qwenvl import cli
from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.models.conversations import question_about

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "examples" / "images" / "shapes.png"
FILM = str(ROOT / "examples" / "qwen2_5_vl" / "inputs" / "film.mp4")
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


def tokens_of(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_what_is_asked_for_is_done(hub_folder, assistant, tmp_path):
    """Each option changes what its name says, as the same setting of an `Assistant` does."""
    schema = tmp_path / "schema.json"
    schema.write_text('{"enum": ["ab", "ba"]}')
    messages = [{"role": "system", "content": "Be brief."}, question_about(QUESTION, [PICTURE])]
    warm = {"temperature": 1.5, "do_sample": True, "seed": 5}
    given = {
        ("--system", "Be brief."): (messages, {}),
        ("--min_pixels", 50000): (messages[1:], {"min_pixels": 50000}),
        ("--max_pixels", 7000): (messages[1:], {"max_pixels": 7000}),
        ("--temperature", 1.5, "--seed", 5, "--top_k", 3): (messages[1:], {**warm, "top_k": 3}),
        ("--temperature", 1.5, "--seed", 5, "--top_p", 0.2): (messages[1:], {**warm, "top_p": 0.2}),
        ("--temperature", 1.5, "--seed", 5, "--min_p", 0.3): (messages[1:], {**warm, "min_p": 0.3}),
        ("--repetition_penalty", 3): (messages[1:], {"repetition_penalty": 3.0}),
        ("--schema", schema): (messages[1:], {"schema": {"enum": ["ab", "ba"]}}),
    }
    plain = tokens_of(ask(hub_folder, "--max_new_tokens", 8, "--temperature", 0, "--json"))
    for words, (asked, settings) in given.items():
        cold = () if "--temperature" in words else ("--temperature", 0)
        found = tokens_of(ask(hub_folder, "--max_new_tokens", 8, *cold, *words, "--json"))
        direct = assistant.answer(asked, max_new_tokens=8, **{"do_sample": False, **settings})
        assert (found["token_ids"], found["prompt_tokens"]) == (direct.token_ids, direct.prompt_tokens)
        assert (found["token_ids"], found["prompt_tokens"]) != (plain["token_ids"], plain["prompt_tokens"]), words
    looked_up = ask(hub_folder, "--max_new_tokens", 8, "--temperature", 0, "--prompt_lookup_num_tokens", 4, "--json")
    assert tokens_of(looked_up)["token_ids"] == plain["token_ids"]


def test_the_first_of_several_stop_strings_ends_the_answer(hub_folder, assistant):
    whole = assistant.ask(QUESTION, [PICTURE], max_new_tokens=12, do_sample=False)
    first, second = whole.text[2:4], whole.text[6:8]
    options = ("--max_new_tokens", 12, "--temperature", 0, "--stop", second, "--stop", first)
    found = tokens_of(ask(hub_folder, *options, "--json"))
    assert found["reason"] == "stop" and first in found["text"] and whole.text.startswith(found["text"])
    refused = ask(hub_folder, "--stop", "")
    assert refused.exit_code == 1 and refused.stderr.startswith("error: stop_strings holds an empty text")


def test_videos_come_after_images(hub_folder, assistant):
    options = ("--video_file", FILM, "--video_file", FILM, "--fps", 1, "--max_frames", 4, "--max_pixels", 112896)
    found = tokens_of(ask(hub_folder, "--max_new_tokens", 4, "--temperature", 0, *options, "--json"))
    sampling = {"fps": 1.0, "max_frames": 4, "max_pixels": 112896}
    messages = [question_about(QUESTION, [PICTURE], [FILM, FILM], **sampling)]
    direct = assistant.answer(messages, max_pixels=112896, max_new_tokens=4, do_sample=False)
    assert (found["token_ids"], found["prompt_tokens"]) == (direct.token_ids, direct.prompt_tokens)
    alone = assistant.ask(QUESTION, [PICTURE], max_new_tokens=1).prompt_tokens
    assert direct.sizes["video_original_sizes"] == [(224, 168)] * 2 and direct.prompt_tokens > alone


def test_what_the_first_family_has_not(tmp_path):
    config = qwen_vl_cases.CONFIGS["wide"]
    folder = qwen_vl_model.write(tmp_path, config, qwen_vl_cases.tensors(config))
    for options, says in (
        (("--video_file", FILM), "is neither a picture nor text"),
        (("--image_file", PICTURE, "--max_pixels", 7000), "'max_pixels' is no setting of the processor"),
    ):
        result = run("infer", "--model_path", folder, *options)
        assert result.exit_code == 1 and says in result.stderr and len(result.stderr.splitlines()) == 1


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
        (["--video_file", "no_such.mp4"], "no_such.mp4"),
        (["--video_file", FILM, "--max_frames", 1], "0 frames were asked for"),
        (["--video_file", FILM, "--fps", "nan"], "fps=nan: expected a number over 0"),
        (["--image_file", str(PICTURE), "--max_pixels", 0], "max_pixels is 0"),
        (["--schema", "no_such.json"], "no_such.json cannot be read"),
        (["--top_k", -1], "top_k is -1"),
        (["--kv_cache_gib", "nan"], "kv_cache_gib is nan: give from "),
        (["--max_new_tokens", 0], "max_new_tokens is 0"),
        (["--device", "abacus"], "'abacus' cannot be used"),
    ],
)
def test_errors_are_one_line(hub_folder, arguments, says):
    result = run("infer", "--model_path", hub_folder, *arguments)
    assert result.exit_code == 1 and result.stdout == ""
    assert says in result.stderr and result.stderr.startswith("error: ") and "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [["infer", "--question", QUESTION], ["chat"]])
def test_a_card_that_is_told_of_each_operation(monkeypatch, command):
    given = {}

    def load(model_path, **how):
        given.update(how)
        raise CheckpointError("no")

    monkeypatch.setattr(Assistant, "load", load)
    assert run(*command, "--no_cuda_graph").exit_code == 1 and given["no_cuda_graph"] is True
    given.clear()
    assert run(*command).exit_code == 1 and given and "no_cuda_graph" not in given


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
