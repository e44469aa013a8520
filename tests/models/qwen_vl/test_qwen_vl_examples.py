"""The example scripts, run on a tiny model as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import paddlenlp  # noqa: F401  (the scripts need it)

ROOT = Path(__file__).parents[3]


def run(script: str, folder: Path, *arguments: str, words: str = "") -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "examples" / "qwen_vl" / script, "--model_name_or_path", folder, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, input=words, env=environment, capture_output=True, text=True, timeout=300)


def test_caption_answer_and_boxes(folder, tmp_path):
    done = run(
        "run_predict.py", folder, "--input_image", "street.png", "--max_new_tokens", "3", "--output_dir", tmp_path
    )
    assert done.returncode == 0, done.stderr
    starts = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert [start for start in starts if start in ("caption", "answer", "boxes")] == ["caption", "answer", "boxes"]
    done = run("run_predict.py", folder, "--input_image", "nowhere.png")
    assert done.returncode == 1 and done.stderr.startswith("error: nowhere.png")


def test_a_random_model_for_those_who_have_no_other(tmp_path):
    """Made on the spot, it runs the other scripts."""
    script, folder = ROOT / "examples" / "qwen_vl" / "random_model.py", tmp_path / "random"
    subprocess.run([sys.executable, script, folder], check=True, timeout=300)
    done = run("run_predict.py", folder, "--max_new_tokens", "3", "--prompt", "What is this?", "--output_dir", tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("prompt: "), done.stderr


def test_a_conversation(folder, tmp_path):
    words = "<img>tower.png</img>and this?\n<img>nowhere.png</img>\nthe\n"
    arguments = ("--image_file", "street.png", "--max_new_tokens", "3", "--output_dir", tmp_path)
    done = run("chat_demo.py", folder, *arguments, words=words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("you: model: ") == 3 and done.stdout.count("error: nowhere.png") == 1
