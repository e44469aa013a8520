"""The command line and the example script, on a tiny random model."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from paddlemix_qwenvl import cli
from paddlemix_qwenvl.commands import doctor
from paddlemix_qwenvl.commands.doctor import Finding
from paddlemix_qwenvl.commands.infer import Answer, Assistant, usable_dtype, use_device
from paddlemix_qwenvl.errors import CheckpointError, ConfigurationError
from paddlemix_qwenvl.media import messages

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "examples" / "images" / "shapes.png"
QUESTION = "What is in this image?"


@pytest.fixture(scope="module")
def assistant(hub_folder):
    return Assistant.load(str(hub_folder), dtype="float32")


@pytest.fixture(autouse=True)
def hosts_as_loud_as_before(monkeypatch):
    """The command silences Python's warnings and PaddleNLP's logger for its process; here that is the tests' own.

    PaddleNLP's logger keeps the standard error of the moment it is imported, which must not be a test's.
    """
    import paddlenlp.utils.log  # noqa: F401

    monkeypatch.setattr(cli, "quiet_hosts", lambda: None)


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
    assert set(answer) == {"text", "token_ids", "prompt_tokens", "seconds"}
    assert set(answer["seconds"]) == {"load", "vision", "prefill", "decode"}
    assert all(seconds > 0 for seconds in answer["seconds"].values())
    direct = assistant.ask(QUESTION, [PICTURE], max_new_tokens=6, do_sample=False)
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


def test_json_can_be_encoded(capsys):
    cli.print_json({"text": "a\ud83d\udc31 b\udc31"})
    assert capsys.readouterr().out == '{"text": "a🐱 b\ufffd"}\n'


def test_text_is_streamed(hub_folder, assistant):
    pieces = []
    answer = assistant.ask(QUESTION, [PICTURE], on_text=pieces.append, max_new_tokens=8, do_sample=False)
    assert len(pieces) > 1 and "".join(pieces) == answer.text
    assert ask(hub_folder, "--max_new_tokens", 8, "--temperature", 0).stdout == answer.text + "\n"


def test_boxes_are_drawn_on_each_picture(tmp_path):
    box = '[{"bbox_2d": [28, 28, 84, 84], "label": "star"}]'
    answer = Answer(box, [], 0, original_sizes=[(126, 98), (60, 60)], resized_sizes=[(252, 196), (56, 56)])
    lines = answer.draw([Image.new("RGB", (126, 98)), Image.new("RGB", (60, 60))], str(tmp_path / "new" / "boxes.png"))
    assert lines[0] == f"{tmp_path}/new/boxes-1.png: star [14, 14, 42, 42]"
    assert lines[1].startswith(f"{tmp_path}/new/boxes-2.png: the answer points at nothing")
    found, nothing = (np.asarray(Image.open(line.partition(": ")[0])) for line in lines)
    assert found.any() and not nothing.any()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["boxes-1.png", "boxes-2.png"]


def test_the_picture_is_shown(hub_folder, tmp_path):
    result = ask(hub_folder, "--max_new_tokens", 2, "--draw", tmp_path / "answer.png")
    assert result.exit_code == 0 and f"{tmp_path}/answer.png: " in result.stdout and (tmp_path / "answer.png").is_file()
    result = ask(hub_folder, "--max_new_tokens", 2, "--draw", tmp_path / "answer.txt")
    assert result.exit_code == 1 and "answer.txt cannot be written as a picture" in result.stderr


def test_sampling_follows_the_seed(assistant):
    def tokens(seed):
        settings = {"do_sample": True, "temperature": 1.5, "top_p": 0.95, "max_new_tokens": 8}
        return assistant.ask(QUESTION, [PICTURE], seed=seed, **settings).token_ids

    assert tokens(1) == tokens(1)
    assert len({tuple(tokens(seed)) for seed in range(4)}) > 1


@pytest.mark.parametrize("remember", [True, False])
def test_the_next_turn_of_a_chat_decodes_and_encodes_no_picture_again(hub_folder, monkeypatch, remember):
    decoded, encoded = [], []
    assistant = Assistant.load(str(hub_folder), dtype="float32", remember_images=remember)
    tower, read = assistant.model.visual.forward, messages.read_image
    monkeypatch.setattr(assistant.model.visual, "forward", lambda *given: encoded.append(1) or tower(*given))
    monkeypatch.setattr(messages, "read_image", lambda *given: decoded.append(1) or read(*given))
    content = [{"type": "image", "image": str(PICTURE)}, {"type": "text", "text": "what?"}]
    chat = [{"role": "user", "content": content}]
    first = assistant.answer(chat, max_new_tokens=3)
    chat += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "and now?"}]
    second = assistant.answer(chat, max_new_tokens=3)
    assert second.prompt_tokens > first.prompt_tokens
    assert (len(decoded), len(encoded)) == ((1, 1) if remember else (2, 2))


def test_a_stop_string_needs_no_tokenizer_here(assistant):
    options = {"max_new_tokens": 12, "temperature": 1.5, "do_sample": True, "seed": 3, "eos_token_id": []}
    whole = assistant.ask("what?", **options)
    stop = whole.text[2:4]
    stopped = assistant.ask("what?", stop_strings=stop, **options)
    assert len(stopped.token_ids) < 12 and stopped.token_ids == whole.token_ids[: len(stopped.token_ids)]
    assert stop in stopped.text and whole.text.startswith(stopped.text)


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


def test_devices():
    assert use_device("cpu") == "cpu"
    with pytest.raises(ConfigurationError, match="doctor"):
        use_device("gpu:99")
    with pytest.raises(CheckpointError, match="is not a folder"):
        Assistant.load("./nowhere")


def test_dtype_without_bfloat16(monkeypatch):
    import paddle

    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: (7, 0))
    monkeypatch.setattr(paddle.device.cuda, "get_device_name", lambda: "Tesla V100")
    assert [usable_dtype(dtype, "gpu:0") for dtype in (None, "float32")] == ["float16", "float32"]
    assert [usable_dtype(dtype, "cpu") for dtype in (None, "bfloat16")] == [None, "bfloat16"]
    with pytest.raises(ConfigurationError, match="Tesla V100 has no bfloat16"):
        usable_dtype("bfloat16", "gpu:0")
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: (8, 0))
    assert usable_dtype("bfloat16", "gpu:0") == "bfloat16" and usable_dtype(None, "gpu:0") is None


@pytest.mark.parametrize(("fatal", "code", "verdict"), [(False, 0, "can run"), (True, 1, "would fail")])
def test_doctor(monkeypatch, fatal, code, verdict):
    findings = [Finding("Python", "3.11"), Finding("paddle", "2.6", "install 3.3.1", fatal=fatal)]
    monkeypatch.setattr(doctor, "diagnose", lambda: findings)
    result = run("doctor")
    assert (result.exit_code, verdict in result.stdout, "install 3.3.1" in result.stdout) == (code, True, True)
    result = run("doctor", "--json")
    report = json.loads(result.stdout.splitlines()[-1])
    assert (result.exit_code, report["ok"]) == (code, not fatal)
    assert report["findings"][1] == {"subject": "paddle", "found": "2.6", "remedy": "install 3.3.1", "fatal": fatal}


def test_the_command_line_imports_no_host():
    code = "import sys, paddlemix_qwenvl.cli; sys.exit(any(name in sys.modules for name in ('paddle', 'paddlenlp')))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_example_prints_nothing_but_the_answer(hub_folder, assistant):
    command = [sys.executable, ROOT / "examples" / "qwen2_5_vl" / "single_image_infer.py", "--model_path", hub_folder]
    command += ["--image_file", PICTURE, "--question", QUESTION, "--dtype", "float32"]
    command += ["--max_new_tokens", "4", "--temperature", "0", "--top_p", "0.9"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    answer = assistant.ask(QUESTION, [PICTURE], max_new_tokens=4, do_sample=False)
    assert result.stdout == answer.text + "\n" and result.stderr == ""


def code_blocks(file, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), re.DOTALL)


def test_the_readmes_python(hub_folder, monkeypatch, capsys):
    code = code_blocks("README.md", "python")[0]
    monkeypatch.chdir(ROOT)
    exec(code.replace("Qwen/Qwen2.5-VL-3B-Instruct", str(hub_folder)).replace("=128", "=4"), {})
    assert len(capsys.readouterr().out) > 1


def test_both_readmes_say_the_same():
    english, chinese = "README.md", "README_zh-CN.md"
    assert code_blocks(english, "python") == code_blocks(chinese, "python")
    without_comments = [re.sub(r" +#.*", "", code) for code in code_blocks(english, "sh")]
    assert without_comments == [re.sub(r" +#.*", "", code) for code in code_blocks(chinese, "sh")]
    for file in (english, chinese):
        text = (ROOT / file).read_text(encoding="utf-8")
        named = set(re.findall(r"(?<![\w/])((?:shell|examples|benchmarks|tests|\.ci)/[\w./]+\w)(?![\w{])", text))
        assert len(named) > 5 and not [path for path in named if not (ROOT / path).exists()]
        flags = set(re.findall(r"`(--\w+)", text)) - {"--json"}
        sources = [Path(cli.__file__), *ROOT.glob("examples/*/*.py")]
        assert flags <= {flag for source in sources for flag in re.findall(r'"(--\w+)"', source.read_text())}
