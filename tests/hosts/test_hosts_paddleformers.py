"""PaddleFormers' Auto classes hand out our models as its own kind. The stand-in here, the real one in `formers/answer.py`."""

import json
import subprocess
import sys
from pathlib import Path

import paddle
import pytest

import paddlemix_qwenvl
from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.models.family import families

STANDIN = Path(__file__).parents[1] / "standin"
LAYOUT = Path(__file__).with_name("formers") / "layout.py"
QUESTION = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe the picture."}]}]


@pytest.fixture(scope="module")
def host():
    """The stand-in's `paddleformers.transformers`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(STANDIN / "host")
        import paddleformers.transformers

        yield paddleformers.transformers


def test_the_stand_in_is_laid_out_as_the_real_one():
    done = subprocess.run(
        [sys.executable, LAYOUT], env={"PYTHONPATH": str(STANDIN / "host")}, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == json.loads(LAYOUT.with_suffix(".json").read_text())


def test_what_each_auto_class_hands_out(host):
    config = host.AutoConfig.from_pretrained("demo")
    assert isinstance(config, host.PretrainedConfig) and isinstance(config, families()[0].load("config"))
    for name in ("AutoModel", "AutoModelForConditionalGeneration", "AutoModelForCausalLM"):
        model = getattr(host, name).from_pretrained("demo", convert_from_hf=True, load_checkpoint_format=None)
        assert isinstance(model, host.PretrainedModel) and isinstance(model, families()[0].load("model"))
        assert type(model.config) is type(config)
        assert type(getattr(host, name).from_config(config, dtype="float32")) is type(model)
    for name, kind in [
        ("AutoTokenizer", "tokenizer"),
        ("AutoProcessor", "processor"),
        ("AutoImageProcessor", "image_processor"),
    ]:
        assert isinstance(getattr(host, name).from_pretrained("demo"), families()[0].load(kind))
