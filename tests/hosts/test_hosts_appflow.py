"""PaddleMIX's Appflow answers through our models, and through its own as before."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import hub_model
import pytest

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import GenerationError, PromptError

STANDIN = Path(__file__).parents[1] / "standin"
ROOT = STANDIN.parent.parent
PICTURE = str(ROOT / "examples" / "images" / "shapes.png")
NLP_MODELS = ("AutoModel", "AutoModelForConditionalGeneration", "AutoModelForCausalLM")
# The stand-in always, the real one where its checkout is given.
PADDLEMIX = {"standin": [STANDIN / "host"]}
if "PADDLEMIX_HOME" in os.environ:
    home = Path(os.environ["PADDLEMIX_HOME"])
    PADDLEMIX["paddlemix"] = [home, home / "ppdiffusers"]
# As the real PaddleMIX of February 2025 printed it.
LAYOUT = {
    "Appflow.__init__": ["self", "app", "models", "mode", "device_id", "from_hf_hub", "kwargs"],
    "Appflow.__call__": ["self", "inputs"],
    "AppTask.__init__": ["self", "model", "task", "priority_path", "kwargs"],
    "AppTask.__call__": ["self", "args", "kwargs"],
    "application": {"models": "dict", "default": "dict"},
    "models": ['{"task_class": "type", "task_flag": "str"}'],
    "default": {"model": "str"},
}


@pytest.mark.parametrize(
    "order", [["paddlemix_qwenvl", "paddlemix.appflow"], ["paddlemix.appflow", "paddlemix_qwenvl"]]
)
@pytest.mark.parametrize("host", PADDLEMIX)
def test_either_order_of_imports_and_a_layout_we_know(host, order):
    path = os.pathsep.join(map(str, [*PADDLEMIX[host], ROOT]))
    done = subprocess.run(
        [sys.executable, STANDIN / "ask.py", PICTURE, *order],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    answer = found["appflow"]["result"]
    assert found["answers"] == dict.fromkeys(["AutoModelMIX", *NLP_MODELS], answer)
    assert found["appflow"] == {"image": PICTURE, "prompt": "Describe the picture.", "result": answer}
    assert found["layout"] == LAYOUT


@pytest.fixture
def appflow(monkeypatch):
    """The stand-in's `Appflow`, its table as it was afterwards."""
    monkeypatch.syspath_prepend(STANDIN / "host")
    from paddlemix.appflow import Appflow
    from paddlemix.appflow.configuration import APPLICATIONS

    table = APPLICATIONS["image2text_generation"]
    monkeypatch.setitem(table, "models", table["models"].copy())
    return Appflow


def ask(appflow, model="demo", **options):
    return appflow(app="image2text_generation", models=[model], **options)


def test_a_prompt_alone_goes_on_and_a_picture_begins_anew(appflow):
    chat = ask(appflow)
    first = chat(image=PICTURE, prompt="Describe the picture.")["result"]
    chat(prompt="Detect all shapes.")
    [task] = chat.task_instances
    assert [message["role"] for message in task.messages] == ["user", "assistant"] * 2
    assert task.messages[0]["content"] == [
        {"type": "image", "image": PICTURE},
        {"type": "text", "text": "Describe the picture."},
    ]
    assert task.messages[1]["content"] == first
    chat(image=[PICTURE, PICTURE])
    assert [part["type"] for part in task.messages[0]["content"]] == ["image", "image", "text"]
    assert len(task.messages) == 2


def test_a_folder_and_what_the_model_is_loaded_and_asked_with(appflow, tmp_path):
    folder = shutil.copytree(hub.DEMO, tmp_path / "any-name")
    for name in (str(folder), folder):
        chat = ask(appflow, name, dtype="bfloat16", quantization="int8", meant_for="another model")
        assert chat.task_instances[0]._model.config.dtype == "bfloat16"
    inputs = {"image": PICTURE, "prompt": "Describe the picture.", "generate_kwargs": {"stop_strings": "green"}}
    said = chat(**inputs, score=7)
    assert said == {**inputs, "score": 7, "result": "a green"}


def test_answers_of_qwen2_vl_keep_the_tags_of_their_boxes(appflow, tmp_path):
    config = hub_model.qwen2_vl_config()
    hub_model.write(tmp_path, config, hub_model.tensors(config))
    [task] = ask(appflow, hub_model.write_processor(tmp_path, processor_class="Qwen2VLProcessor")).task_instances
    answer = "<|object_ref_start|>the man<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>"
    ids = task._processor(text=f"{answer}<|im_end|>", return_tensors="pd")["input_ids"]
    assert task._postprocess({"messages": [], "result": ids}) == {"result": answer}
    assert task.messages == [{"role": "assistant", "content": answer}]


@pytest.mark.parametrize("inputs", [{}, {"prompt": []}, {"prompt": 7}, {"image": PICTURE, "prompt": ["a", None]}])
def test_a_question_that_is_none_leaves_the_conversation_as_it_was(appflow, inputs):
    chat = ask(appflow)
    with pytest.raises(PromptError, match="give prompt= as text, or image=, or both"):
        chat(**inputs)
    with pytest.raises(GenerationError, match="generate_kwargs is 7: give settings"):
        chat(image=PICTURE, generate_kwargs=7)
    assert chat.task_instances[0].messages == []


def test_other_models_and_other_applications_are_the_hosts(appflow, tmp_path):
    assert ask(appflow, "toy/toy", a=1)(prompt="?")["result"].startswith("toy/toy with ['a', 'device_id'")
    assert appflow("image2text_generation")(prompt="?")["result"].startswith("toy/toy")
    for app, model in [
        ("toy_generation", "demo"),
        ("image2text_generation", str(tmp_path)),
        ("image2text_generation", 7),
    ]:
        with pytest.raises(AssertionError, match="is not in task"):
            appflow(app=app, models=[model])


def test_an_appflow_we_do_not_know_is_named():
    from paddlemix_qwenvl.hosts import appflow

    for module in (SimpleNamespace(__name__="x"), SimpleNamespace(__name__="x", Appflow=object, APPLICATIONS={})):
        assert appflow.adapt(module, None) == ["x.Appflow with APPLICATIONS['image2text_generation']['models']"]


def test_adapting_again_changes_nothing(appflow):
    from paddlemix_qwenvl.hosts import registry

    before = appflow.__init__
    registry.register()
    assert appflow.__init__ is before and not hasattr(before.__wrapped__, "__wrapped__")
