"""PaddleFormers' Auto classes hand out our models as its own kind: a stand-in here, the real one in `formers/answer.py`."""

import json
import subprocess
import sys
from pathlib import Path

import paddle
import pytest
from standin.folders import QWEN2, write

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.models.family import family_named

STANDIN = Path(__file__).parents[1] / "standin"
LAYOUT = Path(__file__).with_name("formers") / "layout.py"
MODELS = ("AutoModel", "AutoModelForConditionalGeneration", "AutoModelForCausalLM")
IDS = paddle.to_tensor([[1, 2, 3]])


@pytest.fixture(scope="module")
def host():
    """The stand-in's `paddleformers.transformers`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(STANDIN / "host")
        import paddleformers.transformers

        yield paddleformers.transformers


@pytest.fixture
def model(host):
    return host.AutoModelForConditionalGeneration.from_pretrained("demo")


def core(kind):
    return family_named("qwen2_5_vl").load(kind)


def test_the_stand_in_is_laid_out_as_the_real_one():
    path = {"PYTHONPATH": str(STANDIN / "host")}
    done = subprocess.run([sys.executable, LAYOUT], env=path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(LAYOUT.with_suffix(".json").read_text())


def test_what_each_auto_class_hands_out(host):
    config = host.AutoConfig.from_pretrained("demo")
    assert isinstance(config, host.PretrainedConfig) and isinstance(config, core("config"))
    for name in MODELS:
        model = getattr(host, name).from_pretrained("demo", convert_from_hf=True, load_checkpoint_format="naive")
        assert isinstance(model, host.PretrainedModel) and isinstance(model, core("model"))
        assert type(model.config) is type(config) and model.config == config
        assert type(getattr(host, name).from_config(config, dtype="float32")) is type(model)
    for name, kind in [("Tokenizer", "tokenizer"), ("Processor", "processor"), ("ImageProcessor", "image_processor")]:
        assert type(getattr(host, f"Auto{name}").from_pretrained("demo")) is core(kind)


def test_it_answers_and_is_saved_as_the_cores(host, model, tmp_path):
    assert (model(input_ids=IDS).logits == core("model").from_pretrained("demo")(input_ids=IDS).logits).all()
    ids, scores = model.generate(IDS, max_new_tokens=4)
    assert ids.dtype == paddle.int64 and scores.shape == [1, 1] and model.can_generate()
    # As PaddleFormers' Trainer calls it: the second argument is whether this is the main process.
    model.save_pretrained(tmp_path / "no", False, save_checkpoint_format="flex_checkpoint")
    assert not (tmp_path / "no").exists()
    model.save_pretrained(tmp_path, True, save_checkpoint_format="flex_checkpoint", save_to_hf=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    again = core("model").from_pretrained(tmp_path)
    assert (again(input_ids=IDS).logits == model(input_ids=IDS).logits).all()
    assert again.config == core("config").from_pretrained("demo")


def test_a_config_keeps_what_paddleformers_adds_to_itself(host, tmp_path):
    config = host.AutoConfig.from_pretrained("demo")
    assert config.tensor_model_parallel_size == 1
    config.save_pretrained(tmp_path, save_to_hf=True)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved == core("config").from_pretrained("demo").to_dict()
    config.tensor_model_parallel_size = 2
    assert config.to_dict() == {**saved, "tensor_model_parallel_size": 2}


def test_weights_in_place_of_the_models_own_are_refused(model, tmp_path):
    with pytest.raises(CheckpointError, match="got a state_dict: put it into the model"):
        model.save_pretrained(tmp_path, state_dict=model.state_dict())


def test_other_models_and_configs_are_the_hosts(host, tmp_path):
    folder = write(tmp_path, QWEN2)
    for name in MODELS:
        assert getattr(host, name).from_pretrained(folder) == "the host's model"
    for name in ("AutoTokenizer", "AutoProcessor", "AutoImageProcessor"):
        assert getattr(host, name).from_pretrained(folder) == "the host's"
    theirs = host.PretrainedConfig(model_type="qwen2_5_vl")
    assert host.AutoModel.from_config(theirs) == "the host's model"


def test_what_the_host_inherits_from_transformers_is_not_changed(host):
    for name in ("AutoTokenizer", "AutoImageProcessor"):
        theirs = getattr(host, name).__mro__[1]
        assert theirs.from_pretrained("demo") == "transformers' own"


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        ({}, {}, {"download_hub": "huggingface"}),
        ({}, {"DOWNLOAD_SOURCE": "modelscope"}, {"download_hub": "modelscope"}),
        ({"download_hub": "aistudio"}, {}, {"download_hub": "aistudio"}),
        ({"source": "paddlenlp", "revision": "main"}, {}, {"source": "paddlenlp", "revision": "main"}),
    ],
)
def test_a_name_is_looked_up_where_paddleformers_does(host, monkeypatch, options, variables, expected):
    asked = []

    def fetch(name, filename, subfolder="", **source):
        asked.append(source)
        return str(hub.DEMO / "config.json")

    for name in ("QWENVL_SOURCE", "DOWNLOAD_SOURCE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(hub, "fetch", fetch)
    host.AutoConfig.from_pretrained("somebody/a-fine-tune", **options)
    assert asked == [expected] * len(asked) and asked
