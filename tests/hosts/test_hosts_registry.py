"""The hosts' Auto classes: our models are ours, all others are as they were, in whatever order things are imported."""

import functools
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import paddle
import pytest
import standin.family
from standin.folders import QWEN, QWEN2, QWEN2_5_VL, QWEN_VL, write
from standin.tiny import write_tiny_model

import paddlemix_qwenvl
from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.hosts import registry
from paddlemix_qwenvl.models import family as family_records
from paddlemix_qwenvl.models.family import Family, family_named
from paddlemix_qwenvl.models.unsupported import OTHER_FAMILIES

STANDIN = Path(__file__).parents[1] / "standin"
ROOT = STANDIN.parent.parent
FAMILY = family_named("qwen2_5_vl")
OURS = {kind: name for kind, (_, name) in FAMILY.classes.items()}
AUTO_CLASSES = {name: kind for classes in registry.SEAM.values() for name, kind in classes.items()}
NLP = {name: kind for name, kind in AUTO_CLASSES.items() if not name.endswith("MIX")}
# The stand-in always, the real one where its checkout is given.
PADDLEMIX = {"standin": [STANDIN / "host"]}
if "PADDLEMIX_HOME" in os.environ:
    home = Path(os.environ["PADDLEMIX_HOME"])
    PADDLEMIX["paddlemix"] = [home, home / "ppdiffusers"]


def run(*command, path=()):
    """Run Python on a command line in a process of its own, with `path` to import from."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))}
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


@pytest.fixture
def recorded(monkeypatch):
    """Our families' classes record their calls instead of loading a model."""
    monkeypatch.setattr(
        registry, "host_class", lambda family, kind, host: getattr(standin.family, family.classes[kind][1])
    )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder with a whole model; its name says nothing."""
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@functools.cache
def auto(name):
    import paddlenlp.transformers

    return getattr(paddlenlp.transformers, name)


def test_the_hosts_load_our_model(tiny, tmp_path):
    loaded = {name: auto(name).from_pretrained(tiny) for name in NLP}
    for name, kind in NLP.items():
        assert type(loaded[name]) is getattr(paddlemix_qwenvl, OURS[kind])
    first, *others = (loaded[name] for name, kind in NLP.items() if kind == "model")
    ids = paddle.to_tensor([[1, 2, 3]])
    for other in others:
        assert (first(input_ids=ids).logits == other(input_ids=ids).logits).all()
    assert first.config.to_dict() == loaded["AutoConfig"].to_dict()
    made = auto("AutoModelForCausalLM").from_config(loaded["AutoConfig"], dtype="float32")
    assert type(made) is type(first) and made.config.hidden_size == 32
    loaded["AutoProcessor"].save_pretrained(tmp_path)
    for name in ("AutoProcessor", "AutoImageProcessor", "AutoTokenizer"):
        assert type(auto(name).from_pretrained(str(tmp_path))) is type(loaded[name])


@pytest.mark.parametrize(("name", "kind"), NLP.items())
def test_folder_is_ours(recorded, tmp_path, name, kind):
    folder = write(tmp_path / "any-name", QWEN2_5_VL)
    loaded = auto(name).from_pretrained(folder, cache_dir="there", subfolder="", extra=1)
    assert (loaded.by, loaded.args) == (OURS[kind], (folder,))
    assert loaded.kwargs == {"cache_dir": "there", "subfolder": "", "extra": 1}


@pytest.mark.parametrize(
    ("config", "ours"),
    [
        ({"model_type": "qwen2_5_vl"}, True),
        ({"architectures": ["Qwen2_5_VLForConditionalGeneration"]}, True),
        ({"model_type": "qwen2_vl", "architectures": ["Qwen2VLForConditionalGeneration"]}, False),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, False),
        ({"model_type": "qwen2_5_omni", "tokenizer_class": ["Qwen2Tokenizer", None]}, False),
        ({"architectures": None}, False),
        ({"architectures": 7, "model_type": ["qwen2_5_vl"], "processor_class": {}}, False),
        ({"architectures": [[], "Qwen2_5_VLForConditionalGeneration"], "model_type": 7}, True),
        ({}, False),
    ],
)
def test_what_a_config_must_say(config, ours):
    assert FAMILY.claims(config) is ours


def test_processor_saved_alone_is_ours(recorded, tmp_path):
    processor = write(tmp_path / "a", {"preprocessor_config.json": QWEN2_5_VL["preprocessor_config.json"]})
    tokenizer = write(tmp_path / "b", {"tokenizer_config.json": {"tokenizer_class": "Qwen2_5_VLTokenizer"}})
    assert auto("AutoProcessor").from_pretrained(processor).by == "Qwen2_5_VLProcessor"
    assert auto("AutoImageProcessor").from_pretrained(processor).by == "Qwen2_5_VLImageProcessor"
    assert auto("AutoTokenizer").from_pretrained(tokenizer).by == "Qwen2_5_VLTokenizer"


@pytest.mark.parametrize("content", ["{", "null", "{}", '{"model_type": 7}', "[" * 100_000])
def test_a_damaged_config_is_ours_if_the_files_beside_it_are(recorded, tmp_path, content):
    folder = write(tmp_path, QWEN2_5_VL)
    (tmp_path / "config.json").write_text(content)
    for name, kind in NLP.items():
        assert auto(name).from_pretrained(folder).by == OURS[kind]


def test_what_a_config_says_goes_before_the_files_beside_it(recorded, tmp_path):
    text = write(tmp_path / "text", {**QWEN2_5_VL, "config.json": QWEN2["config.json"]})
    assert type(auto("AutoConfig").from_pretrained(text)).__name__ == "Qwen2Config"


MISTAKEN = {
    "qwen2_audio": "Qwen2AudioForConditionalGeneration",
    "qwen2_5_omni": "Qwen2_5OmniModel",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "qwen3_vl_moe": "Qwen3VLMoeForConditionalGeneration",
    "qwen3_omni_moe": "Qwen3OmniMoeForConditionalGeneration",
    "qwen3_5": "Qwen3_5ForConditionalGeneration",
}


@pytest.mark.parametrize("model_type", MISTAKEN)
def test_what_the_host_would_mistake_is_named(tmp_path, model_type):
    config, family = {"model_type": model_type, "architectures": [MISTAKEN[model_type]]}, OTHER_FAMILIES[model_type]
    folder = write(tmp_path, {**QWEN2_5_VL, "config.json": config, "preprocessor_config.json": {}})
    for name in set(NLP) - {"AutoTokenizer"}:
        with pytest.raises(
            ConfigurationError, match=rf'config\.json says model_type "{model_type}" \({family}\), which'
        ):
            auto(name).from_pretrained(folder)


def test_an_adapter_in_place_of_a_model(tmp_path):
    adapter = {"base_model_name_or_path": "Qwen/Qwen2.5-VL-3B-Instruct", "peft_type": "LORA"}
    folder = write(tmp_path, {"adapter_config.json": adapter, "tokenizer_config.json": {"tokenizer_class": "x"}})
    for name in ("AutoConfig", "AutoModel", "AutoModelForCausalLM"):
        with pytest.raises(ConfigurationError, match=r"PEFT adapter \(LORA\) of Qwen/Qwen2\.5-VL-3B-Instruct.*merge"):
            auto(name).from_pretrained(folder)


def test_subfolder_file_and_path_objects(recorded, tmp_path):
    folder = Path(write(tmp_path / "outer" / "inner", QWEN2_5_VL))
    loaded = auto("AutoConfig").from_pretrained(str(folder.parent), subfolder="inner")
    assert loaded.args == (str(folder.parent),) and loaded.kwargs == {"subfolder": "inner"}
    assert auto("AutoConfig").from_pretrained(folder / "config.json").by == "Qwen2_5_VLConfig"
    assert auto("AutoModel").from_pretrained(pretrained_model_name_or_path=folder).args == (str(folder),)


def test_arguments_for_the_host_stay_with_the_host(recorded, tmp_path):
    folder = write(tmp_path, QWEN2_5_VL)
    assert auto("AutoModel").from_pretrained(folder, "ForCausalLM", dtype="float32").kwargs == {"dtype": "float32"}
    assert auto("AutoTokenizer").from_pretrained(folder, use_fast=True, padding_side="left").kwargs == {
        "padding_side": "left"
    }


def test_model_from_config(recorded):
    class Config:
        def to_dict(self):
            return QWEN2_5_VL["config.json"]

    config = Config()
    for name in ("AutoModel", "AutoModelForConditionalGeneration", "AutoModelForCausalLM"):
        made = auto(name).from_config(config, dtype="float32")
        assert (made.by, made.args, made.kwargs) == (OURS["model"], (config,), {"dtype": "float32"})


def test_demo_is_the_model_in_the_package(recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "DEMO", tmp_path / "package" / "demo")
    shipped = write(hub.DEMO, QWEN2_5_VL)
    for name in NLP:
        assert auto(name).from_pretrained("demo").args == (shipped,)
    (tmp_path / "demo").mkdir()
    assert auto("AutoModel").from_pretrained("demo").args == (shipped,)
    write(tmp_path / "demo", QWEN2_5_VL)
    assert auto("AutoModel").from_pretrained("demo").args == ("demo",)


def test_other_models_are_as_before(tmp_path):
    """Tiny models of PaddleNLP's own; the text-only ones share names, tokenizer classes or architectures with ours."""
    from paddlenlp import transformers as nlp

    small = {"vocab_size": 32, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    qwen2 = nlp.Qwen2Config(**small, intermediate_size=32, num_key_value_heads=1, architectures=["Qwen2ForCausalLM"])
    nlp.Qwen2ForCausalLM(qwen2).save_pretrained(str(tmp_path / "Qwen2.5-VL-text"))
    (tmp_path / "Qwen2.5-VL-text" / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2}))
    (tmp_path / "Qwen2.5-VL-text" / "merges.txt").write_text("#version: 0.2\na b\n")
    write(tmp_path / "Qwen2.5-VL-text", {"tokenizer_config.json": QWEN2["tokenizer_config.json"]})
    qwen = nlp.QWenConfig(**small, intermediate_size=64, seq_length=16, kv_channels=12)
    nlp.QWenForCausalLM(qwen).save_pretrained(str(tmp_path / "qwen-vl"))
    t5 = nlp.T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    nlp.T5ForConditionalGeneration(t5).save_pretrained(str(tmp_path / "t5"))
    write(tmp_path / "clip", {"preprocessor_config.json": {"image_processor_type": "CLIPImageProcessor"}})
    for name, folder, expected in [
        ("AutoConfig", "Qwen2.5-VL-text", nlp.Qwen2Config),
        ("AutoModel", "Qwen2.5-VL-text", nlp.Qwen2Model),
        ("AutoModelForCausalLM", "Qwen2.5-VL-text", nlp.Qwen2ForCausalLM),
        ("AutoTokenizer", "Qwen2.5-VL-text", nlp.Qwen2Tokenizer),
        ("AutoConfig", "qwen-vl", nlp.QWenConfig),
        ("AutoModelForCausalLM", "qwen-vl", nlp.QWenForCausalLM),
        ("AutoModelForConditionalGeneration", "t5", nlp.T5ForConditionalGeneration),
        ("AutoImageProcessor", "clip", nlp.CLIPImageProcessor),
    ]:
        assert type(auto(name).from_pretrained(str(tmp_path / folder))) is expected
    assert type(auto("AutoModelForCausalLM").from_config(qwen2)) is nlp.Qwen2ForCausalLM


@pytest.mark.parametrize("name", NLP)
def test_the_hosts_own_error_for_what_is_not_there(name):
    before = auto(name).from_pretrained.__func__.__wrapped__
    for given in ("/no/such/folder", 7.5):
        errors = []
        for method in (auto(name).from_pretrained, functools.partial(before, auto(name))):
            with pytest.raises(Exception) as caught:
                method(given)
            errors.append((type(caught.value), str(caught.value)))
        assert errors[0] == errors[1]


def test_nothing_is_read_for_names_the_host_knows_by_heart(monkeypatch):
    monkeypatch.setattr(hub, "fetch", lambda *args, **kwargs: pytest.fail(f"fetched {args}"))
    assert auto("AutoConfig").from_pretrained("bert-base-uncased").model_type == "bert"


def test_a_second_family_is_one_entry(recorded, monkeypatch, tmp_path):
    family = Family(
        name="qwen_vl_again",
        title="Qwen-VL",
        model_type="qwen",
        classes={kind: ("", name) for kind, name in (("config", "C"), ("model", "M"), ("tokenizer", "T"))},
        claims=lambda config: config.get("model_type") == "qwen" and "visual" in config,
        hub_names=("Qwen/Qwen-VL", "qwen-vl/qwen-vl-"),
    )
    monkeypatch.setattr(family_records, "families", lambda: (FAMILY, family))
    vision, text = write(tmp_path / "vision", QWEN_VL), write(tmp_path / "text", QWEN)
    assert auto("AutoModelForCausalLM").from_pretrained(vision).by == "M"
    assert auto("AutoTokenizer").from_pretrained(vision).by == "T"
    assert type(auto("AutoConfig").from_pretrained(text)).__module__ == "paddlenlp.transformers.qwen.configuration"
    with pytest.raises(FileNotFoundError):  # it has no image processor: left to the host, which finds none either
        auto("AutoImageProcessor").from_pretrained(vision)


def test_registering_again_changes_nothing():
    methods = {name: auto(name).from_pretrained.__func__ for name in NLP}
    finders = list(sys.meta_path)
    registry.register()
    importlib.reload(paddlemix_qwenvl)
    assert {name: auto(name).from_pretrained.__func__ for name in NLP} == methods
    assert sys.meta_path == finders
    assert not any(hasattr(method.__wrapped__, "__wrapped__") for method in methods.values())


@pytest.mark.parametrize(
    "order",
    [
        ["paddlemix_qwenvl", "paddlemix.auto"],
        ["paddlemix.auto", "paddlemix_qwenvl"],
        ["paddlenlp", "paddlemix_qwenvl", "paddlemix.auto"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("host", PADDLEMIX)
def test_any_order_of_imports_and_a_layout_we_know(host, order, tiny):
    done = run(STANDIN / "order.py", tiny, *order, path=PADDLEMIX[host])
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["paddlemix"]) == PADDLEMIX[host][0] / "paddlemix" / "__init__.py"
    expected = {name: f"paddlemix_qwenvl.hosts.paddlenlp.{OURS[kind]}" for name, kind in AUTO_CLASSES.items()}
    expected["AutoProcessorMIX"] = [expected["AutoProcessorMIX"], expected["AutoTokenizerMIX"]]
    assert found["classes"] == expected
    # As the real PaddleMIX of February 2025 printed it: the stand-in must be like it, and so must a checkout given.
    assert found["layout"] == json.loads((STANDIN / "layout.json").read_text())


def test_paddlemix_keeps_its_other_models(recorded, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(STANDIN / "host")
    from paddlemix.auto import AutoModelMIX, AutoProcessorMIX
    from paddlemix.models.toy.modeling import ToyModel

    toy = write(tmp_path / "toy", {"config.json": {"architectures": ["ToyModel"], "model_type": "toy"}})
    assert AutoModelMIX.from_pretrained(toy, dtype="float32") == (ToyModel, (toy,), {"dtype": "float32"})
    assert type(AutoProcessorMIX.from_pretrained(toy)[0]).__name__ == "ToyProcessor"
    # A PaddleMIX that has a family which PaddleNLP mistakes keeps it.
    monkeypatch.setattr(registry, "_exists", lambda name: name == "paddlemix.models.qwen3_vl")
    later = write(tmp_path / "later", {"config.json": {"architectures": ["ToyModel"], "model_type": "qwen3_vl"}})
    assert AutoModelMIX.from_pretrained(later) == (ToyModel, (later,), {})
    ours = write(tmp_path / "ours", QWEN2_5_VL)
    assert AutoProcessorMIX.from_pretrained(ours, "text", eval="eval", max_length=5)[0].kwargs == {"max_length": 5}


AUTO = {
    "auto/__init__.py": "",
    **{
        f"auto/{module.rpartition('.')[2]}.py": "".join(
            f"class {name}:\n    @classmethod\n    def from_pretrained(cls, name): return 'host'\n" for name in classes
        )
        for module, classes in registry.SEAM.items()
        if "paddlenlp" in module
    },
}
BOTH_ORDERS = [
    "import paddlemix_qwenvl\nimport {modules}",
    "import {modules}\nimport paddlemix_qwenvl",
]


def report(tmp_path, package, files, modules, order, then=""):
    """What is warned about a host made of `files`."""
    for file, content in {"__init__.py": "", **files}.items():
        path = tmp_path / package.replace(".", "/") / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / package.partition(".")[0] / "__init__.py").write_text("__version__ = '9.9'")
    return run("-c", order.format(modules=modules) + "\n" + then, path=[tmp_path])


@pytest.mark.parametrize("order", BOTH_ORDERS, ids=["first", "last"])
@pytest.mark.parametrize(
    ("package", "changed", "modules", "missing"),
    [
        ("paddlenlp.transformers", {}, "paddlenlp.transformers", "paddlenlp.transformers.auto."),
        (
            "paddlenlp.transformers",
            {**AUTO, "auto/tokenizer.py": "class AutoTokenizer:\n    from_pretrained = staticmethod(print)"},
            "paddlenlp.transformers.auto.tokenizer",
            "paddlenlp.transformers.auto.tokenizer.AutoTokenizer.from_pretrained.",
        ),
        (
            "paddlenlp.transformers",
            {**AUTO, "auto/modeling.py": AUTO["auto/modeling.py"].replace("ForCausalLM", "ForChat")},
            "paddlenlp.transformers.auto.modeling",
            "paddlenlp.transformers.auto.modeling.AutoModelForCausalLM.from_pretrained.",
        ),
        (
            "paddlenlp.transformers",
            {file: content for file, content in AUTO.items() if "processing" not in file},
            "paddlenlp.transformers.auto",
            "paddlenlp.transformers.auto.processing, no paddlenlp.transformers.auto.image_processing.",
        ),
        ("paddlemix", {}, "paddlemix", "paddlemix.auto."),
    ],
    ids=["no auto", "no class method", "no class", "no module", "no paddlemix.auto"],
)
def test_a_host_we_do_not_know_is_named_in_a_warning(tmp_path, package, changed, modules, missing, order):
    host = package.partition(".")[0]
    warnings = report(tmp_path, package, changed, modules, order).stderr
    assert warnings.count("Warning:") == 1
    assert f"RuntimeWarning: {host} 9.9 is not laid out as paddlemix_qwenvl expects: it has no {missing}" in warnings


@pytest.mark.parametrize("order", BOTH_ORDERS, ids=["first", "last"])
def test_a_host_we_know_gets_no_warning_and_keeps_its_loader(tmp_path, order):
    modules = ", ".join(module for module in registry.SEAM if "paddlenlp" in module)
    then = """
import importlib, inspect, sys
module = sys.modules["paddlenlp.transformers.auto.tokenizer"]
assert type(module.__loader__).__name__ == type(module.__spec__.loader).__name__ == "SourceFileLoader"
assert hasattr(module.AutoTokenizer.from_pretrained.__func__, "_paddlemix_qwenvl")
assert str(inspect.signature(module.AutoTokenizer.from_pretrained)) == "(name)"
importlib.reload(module)
assert hasattr(module.AutoTokenizer.from_pretrained.__func__, "_paddlemix_qwenvl")
"""
    assert report(tmp_path, "paddlenlp.transformers", AUTO, modules, order, then).stderr == ""


def test_a_host_that_is_broken_breaks_as_before(tmp_path):
    files = {**AUTO, "auto/modeling.py": "raise ImportError('no paddle')"}
    then = """
try:
    import paddlenlp.transformers.auto.modeling
except ImportError as error:
    assert str(error) == "no paddle"
else:
    raise AssertionError
"""
    assert report(tmp_path, "paddlenlp.transformers", files, "paddlenlp", BOTH_ORDERS[0], then).stderr == ""
