"""The checkpoint in the package: small, complete, and right on every way of running it."""

import functools
from pathlib import Path

import evaluate
import pytest
import scenes

import paddlemix_qwenvl
from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

FOLDER = paddlemix_qwenvl.__path__[0] + "/demo"
EXAMPLES = 20  # of a task


def test_it_has_the_hubs_files_and_is_small():
    names = {path.name: path.stat().st_size for path in Path(FOLDER).iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "vocab.json", "merges.txt"} <= set(names)
    assert {"tokenizer_config.json", "preprocessor_config.json", "generation_config.json"} <= set(names)
    assert sum(names.values()) < 8e6


@pytest.mark.parametrize("path", ["float32", "bfloat16", "int8", "static"])
def test_it_answers_right(path):
    weights = {"dtype": "bfloat16" if path == "bfloat16" else "float32"}
    if path == "int8":
        weights["quantization"] = "int8"
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained("demo", **weights)
    processor = Qwen2_5_VLProcessor.from_pretrained("demo")
    if path == "static":
        ask = functools.partial(evaluate.predicted, evaluate.exported(model, processor))
    else:
        ask = functools.partial(evaluate.answers, model, processor)
    scores = {task: evaluate.evaluate(ask, task, EXAMPLES, EXAMPLES) for task in scenes.TASKS}
    located = scores.pop("locate")
    assert all(score["exact"] >= 0.95 for score in scores.values()), scores
    assert located["mean IoU"] > 0.8 and located["parsed"] == 1, located
