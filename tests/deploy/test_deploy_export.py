import json
import subprocess
import sys

import numpy as np
import pytest

from paddlemix_qwenvl.deploy.export import export
from paddlemix_qwenvl.deploy.manifest import Manifest
from paddlemix_qwenvl.deploy.predictor import Predictor
from paddlemix_qwenvl.errors import DeployError, PromptError

NEW_TOKENS = 64


def noise(width: int, height: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def conversation(text: str, *images) -> list:
    content = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": text}]
    return [{"role": "user", "content": content}]


BATCHES = {
    "one picture": [conversation("What is this?", noise(90, 60, 0))],
    "two pictures": [conversation("Compare.", noise(56, 140, 1), noise(200, 57, 2))],
    "text": [conversation("Hello")],
    "a batch": [
        conversation("Hi"),
        conversation("And this?", noise(112, 84, 3)),
        conversation("Count", noise(30, 30, 4)),
    ],
}


@pytest.fixture(scope="module")
def folder(model, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("deploy") / "export"
    export(model, processor, folder, say=lambda line: None)
    return folder


@pytest.fixture(scope="module")
def predictor(folder):
    return Predictor(folder)


@pytest.mark.parametrize("name", BATCHES)
def test_static_tokens_are_the_dynamic_ones(model, processor, predictor, name):
    conversations = BATCHES[name]
    settings = {
        "max_new_tokens": NEW_TOKENS,
        "min_new_tokens": NEW_TOKENS,
        "do_sample": False,
        "repetition_penalty": 1.1,
    }
    inputs = processor.apply_chat_template(
        conversations, add_generation_prompt=True, tokenize=True, return_tensors="pd"
    )
    expected, _ = model.generate(**inputs, **settings)
    prediction = predictor.chat(conversations, **settings)
    assert prediction.token_ids == expected.tolist()
    assert prediction.prompt_tokens == inputs["attention_mask"].sum(-1).tolist()
    assert prediction.texts == processor.post_process(expected)


def test_sampling_depends_on_the_seed_alone(predictor):
    settings = {"max_new_tokens": 12, "do_sample": True, "temperature": 1.5, "top_k": 40, "top_p": 0.95}
    first, again, other = (predictor.chat(BATCHES["text"], seed=seed, **settings).token_ids for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_prompt_over_the_context_is_refused(predictor):
    with pytest.raises(PromptError, match="context"):
        predictor.chat(conversation("word " * predictor.manifest.context))


def test_the_predictor_needs_neither_paddlenlp_nor_the_modelling_code(folder):
    code = (
        f"import sys; from paddlemix_qwenvl.deploy.predictor import Predictor; Predictor({str(folder)!r});"
        "print([m for m in sys.modules if m.startswith(('paddlenlp', 'transformers', 'paddlemix_qwenvl.layers'))"
        " or m.endswith('.modeling')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().splitlines()[-1] == "[]"


def test_a_changed_file_is_noticed(folder, tmp_path):
    damaged = copy_of(folder, tmp_path)
    weights = damaged / "vision.pdiparams"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(DeployError, match=r"vision.pdiparams.*checksum"):
        Predictor(damaged)


def test_a_missing_file_is_noticed(folder, tmp_path):
    damaged = copy_of(folder, tmp_path)
    (damaged / "language.json").unlink()
    with pytest.raises(DeployError, match=r"language.json is missing"):
        Predictor(damaged)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("family", "qwen_vl", "not of 'qwen2_5_vl'"), ("format", 99, "format 99"), ("paddle", "2.6.2", "Paddle 2.6.2")],
)
def test_a_manifest_that_does_not_fit_is_refused(folder, tmp_path, field, value, message):
    other = copy_of(folder, tmp_path)
    fields = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**fields, field: value}))
    with pytest.raises(DeployError, match=message):
        Predictor(other)


def test_no_export_at_all(tmp_path):
    with pytest.raises(DeployError, match="paddlemix-qwenvl export"):
        Manifest.read(tmp_path)


def test_a_folder_with_other_things_is_not_overwritten(model, processor, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DeployError, match="is no export"):
        export(model, processor, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_failed_export_leaves_nothing(model, processor, tmp_path, monkeypatch):
    monkeypatch.setattr("paddlemix_qwenvl.deploy.export.describe", lambda model: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(model, processor, tmp_path / "out", say=lambda line: None)
    assert list(tmp_path.iterdir()) == []


def copy_of(folder, tmp_path):
    target = tmp_path / "copy"
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_graphs_whose_operations_are_missing_say_how_to_build_them(folder, tmp_path, monkeypatch):
    other = copy_of(folder, tmp_path)
    fields = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**fields, "compiled_ops": True}))
    monkeypatch.setitem(sys.modules, "paddlemix_qwenvl_ops", None)
    with pytest.raises(DeployError, match=r"setup.py install"):
        Predictor(other)
