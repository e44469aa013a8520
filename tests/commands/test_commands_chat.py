"""A chat with the demo through a pipe: answers on standard output, all else on standard error."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from paddlemix_qwenvl import cli
from paddlemix_qwenvl.commands import conversation, terminal
from paddlemix_qwenvl.engine.engine import BLOCK_SIZE
from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.grounding import draw
from paddlemix_qwenvl.media import load_image
from paddlemix_qwenvl.models.conversations import question_about

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "examples" / "images" / "shapes.png"
FILM = ROOT / "examples" / "qwen2_5_vl" / "inputs" / "film.mp4"
WHERE, WHAT = "Locate all shapes.", "Describe the picture."


@pytest.fixture(scope="module")
def demo():
    return Assistant.load("demo", remember_images=False)


def chat(*lines, options=()):
    """What a chat that was typed these lines said, on both streams."""
    typed = "".join(f"{line}\n" for line in lines)
    done = CliRunner().invoke(cli.app, ["chat", *map(str, options)], input=typed)
    assert done.exit_code == 0, done.stderr
    return done


def answers(*lines, options=()) -> list[dict]:
    return [json.loads(line) for line in chat(*lines, options=[*options, "--json"]).stdout.splitlines()]


def test_the_second_turn_computes_only_what_is_new(demo):
    first, second = answers(f"/image {PICTURE}", WHERE, WHAT)
    messages = [question_about(WHERE, [PICTURE])]
    alone = demo.answer(messages)
    assert (first["token_ids"], first["text"], first["cached_tokens"]) == (alone.token_ids, alone.text, 0)
    messages += [{"role": "assistant", "content": alone.text}, question_about(WHAT)]
    alone = demo.answer(messages)
    assert (second["token_ids"], second["prompt_tokens"]) == (alone.token_ids, alone.prompt_tokens)
    computed = first["prompt_tokens"] + len(first["token_ids"]) - 1
    assert second["cached_tokens"] == computed // BLOCK_SIZE * BLOCK_SIZE > first["prompt_tokens"]
    assert alone.cached_tokens == second["seconds"]["vision"] == 0


def test_answers_are_streamed_and_the_rest_is_said_elsewhere(demo):
    done = chat("", f"/image '{PICTURE}'", WHAT, "/exit", "more")
    assert done.stdout == demo.ask(WHAT, [PICTURE]).text + "\n"
    room, shown = done.stderr.splitlines()
    assert shown == "(picture of 252 x 196 pixels)"
    tokens = 4 * 2048
    assert room == (
        f"The cache takes {tokens * 2560 / 2**30:.3g} GiB and holds {tokens} tokens (--kv_cache_gib); a conversation may have "
        "2048. /help lists what can be typed besides questions."
    )


def test_what_goes_wrong_is_said_and_the_chat_goes_on(demo, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    lines = ["/image nowhere.png", f"/image {tmp_path}/text.png", "/video no.mp4", "/imgae x", "/image", "/clear now"]
    done = chat(*lines, "/draw a.png", f"/image {PICTURE}", WHAT, f"/draw {tmp_path}/a.txt")
    assert done.stdout == demo.ask(WHAT, [PICTURE]).text + "\n"
    said = done.stderr.splitlines()[1:]
    assert said[0].startswith("error: nowhere.png: No such file or directory; give a readable file")
    assert "text.png: it is no picture of a kind" in said[1] and said[2].startswith("error: no.mp4: No such file")
    assert said[3:8] == [
        "error: there is no /imgae: type /help for what there is.",
        "error: /image takes PATH_OR_URL: type /image PATH_OR_URL.",
        "error: /clear takes nothing more: type /clear.",
        "error: there is no answer to draw: ask for the places of things first.",
        "(picture of 252 x 196 pixels)",
    ]
    assert (
        said[8].endswith("a.txt cannot be written as a picture: give a name that ends in .png or .jpg.")
        and len(said) == 9
    )


def test_the_last_answer_is_drawn_on_the_picture_it_is_about(tmp_path):
    other = tmp_path / "white.png"
    Image.new("RGB", (280, 280), "white").save(other)
    done = chat(f"/image {other}", "Describe.", f"/image {PICTURE}", WHERE, f"/draw {tmp_path}/new/drawn.png")
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"{tmp_path}/new/drawn.png: ") and " star [" in line
    drawn, nothing = Image.open(tmp_path / "new" / "drawn.png"), draw(load_image(PICTURE), [])
    assert drawn.size == nothing.size and (np.asarray(drawn) != np.asarray(nothing)).any()


def test_clear_forgets_and_system_stays(demo):
    lines = ["Hello", "/clear", "/system Be brief.", "Hello", "/clear", "Hello", "/system", "/clear", "Hello"]
    plain, told, again, without = answers(*lines)
    system = [{"role": "system", "content": "Be brief."}]
    wanted = [demo.answer([*first, question_about("Hello")]).prompt_tokens for first in ([], system)]
    assert [each["prompt_tokens"] for each in (plain, told, again, without)] == [wanted[i] for i in (0, 1, 1, 0)]
    assert answers("Hello", options=["--system", "Be brief."])[0]["prompt_tokens"] == wanted[1] != wanted[0]


def test_a_turn_that_does_not_fit_names_clear():
    blocks = 256 // BLOCK_SIZE
    gib = (blocks + 0.5) * BLOCK_SIZE * 2560 / 2**30
    options = ["--kv_cache_gib", gib, "--max_new_tokens", 128, "--image_file", PICTURE]
    done = chat(WHERE, WHERE, "/clear", f"/image {PICTURE}", WHERE, options=options)
    room, _, error, _ = done.stderr.splitlines()
    assert " holds 256 tokens (--kv_cache_gib); a conversation may have 256." in room
    assert error.startswith("error: the request takes up to ") and error.endswith(
        " /clear forgets what was said and shown."
    )
    half = len(done.stdout) // 2
    assert done.stdout[:half] == done.stdout[half:] != ""


def test_ctrl_c_ends_the_answer_and_not_the_chat(demo, monkeypatch):
    pieces = []

    def stream(text):
        pieces.append(text)
        if len(pieces) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(terminal, "stream", stream)
    before = signal.getsignal(signal.SIGINT)
    done = chat(f"/image {PICTURE}", WHERE, WHAT)
    assert signal.getsignal(signal.SIGINT) is before
    assert done.stderr.splitlines()[2:] == ["(stopped)"]
    cut, text = "".join(pieces[: pieces.index("\n", 3)]), demo.ask(WHERE, [PICTURE]).text
    assert text.startswith(cut.strip()) and 0 < len(cut.strip()) < len(text)
    messages = [question_about(WHERE, [PICTURE]), {"role": "assistant", "content": cut.strip()}, question_about(WHAT)]
    assert "".join(pieces).endswith(f"\n{demo.answer(messages).text}\n")


def test_ctrl_c_ends_a_command_and_not_the_chat(demo, monkeypatch):
    def load(path):
        if path == "slow.png":
            raise KeyboardInterrupt
        return load_image(path)

    monkeypatch.setattr(conversation, "load_image", load)
    done = chat("/image slow.png", f"/image {PICTURE}", WHAT)
    assert done.stderr.splitlines()[1:] == ["(stopped)", "(picture of 252 x 196 pixels)"]
    assert done.stdout == demo.ask(WHAT, [PICTURE]).text + "\n"


def test_ctrl_c_twice_ends_the_chat(monkeypatch):
    def stream(text):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(terminal, "stream", stream)
    before = signal.getsignal(signal.SIGINT)
    done = CliRunner().invoke(cli.app, ["chat"], input="hello\nhello\n")
    assert done.exit_code == 130 and signal.getsignal(signal.SIGINT) is before


def test_an_answer_that_is_cut_off_says_so():
    done = chat(f"/image {PICTURE}", WHERE, options=["--max_new_tokens", 4])
    assert done.stderr.splitlines()[-1] == "(cut off: by --max_new_tokens, or because the context is full)"


def test_a_video_is_sampled_as_infer_does(demo):
    sampling = ["--fps", 1, "--max_frames", 6, "--max_pixels", 56 * 56, "--min_pixels", 28 * 28]
    done = CliRunner().invoke(cli.app, ["infer", *map(str, sampling), "--video_file", str(FILM), "--json"])
    wanted = json.loads(done.stdout)
    video = {
        "type": "video",
        "video": str(FILM),
        "fps": 1,
        "max_frames": 6,
        "max_pixels": 56 * 56,
        "min_pixels": 28 * 28,
    }
    question = {"role": "user", "content": [video, {"type": "text", "text": "Describe this image."}]}
    direct = demo.answer([question], max_pixels=56 * 56, min_pixels=28 * 28)
    assert wanted["token_ids"] == direct.token_ids and wanted["prompt_tokens"] == direct.prompt_tokens
    for lines, options in (
        ([f"/video {FILM}", "Describe this image."], sampling),
        (["Describe this image."], [*sampling, "--video_file", FILM]),
    ):
        (found,) = answers(*lines, options=options)
        assert (found["token_ids"], found["prompt_tokens"]) == (direct.token_ids, direct.prompt_tokens)
    assert "(video, 6 frames up to " in chat(f"/video {FILM}", options=sampling).stderr


def test_a_schema_guides_every_answer(tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"enum": ["circle", "star"]}')
    found = answers(f"/image {PICTURE}", WHERE, WHAT, options=["--schema", schema])
    assert [each["text"] in ('"circle"', '"star"') for each in found] == [True, True]
    schema.write_text('{"type": "nothing"}')
    done = CliRunner().invoke(cli.app, ["chat", "--schema", str(schema)], input="hello\n")
    assert done.exit_code == 1 and done.stderr.startswith("error: the JSON schema cannot be compiled: ")


def test_no_input_at_all():
    assert chat().stdout == ""
    shell = f"exec {sys.executable} -m paddlemix_qwenvl.cli chat <&-"
    done = subprocess.run(["sh", "-c", shell], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "") and done.stderr.startswith("The cache takes ")


def test_lines_that_are_no_utf_8():
    done = CliRunner().invoke(cli.app, ["chat", "--max_new_tokens", "3"], input=b"what \xff?\n/\xff\n")
    assert done.exit_code == 0 and done.stdout.endswith("\n")
    assert done.stderr.splitlines()[-1] == "error: there is no /\ufffd: type /help for what there is."


def test_help_names_every_command():
    said = [line.split()[0] for line in chat("/help").stderr.splitlines()[1:]]
    assert said == ["/image", "/video", "/system", "/draw", "/clear", "/help", "/exit"]


def test_nobody_reads_any_more(monkeypatch):
    def stream(text):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(terminal, "stream", stream)
    done = CliRunner().invoke(cli.app, ["chat"], input="hello\nhello\n")
    assert done.exit_code == 1 and done.stderr.splitlines()[1:] == ["error: [Errno 32] Broken pipe"]


def test_one_process_only(monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    done = CliRunner().invoke(cli.app, ["chat"], input="hello\n")
    assert done.exit_code == 1
    assert done.stderr == "error: chat was launched as 2 processes and is one: start it alone, or use infer.\n"
