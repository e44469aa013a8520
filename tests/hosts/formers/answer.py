"""Loads a model of each family through every Auto class of the real PaddleFormers and prints what it answers.

`answer.py first` imports the package before PaddleFormers, `answer.py last` after it. Ends with an error if a class is not of
PaddleFormers' kind, if two ways answer differently, or if other models are not as they were.
"""

import functools
import json
import os
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]
ORDERS = {
    "first": ["paddlemix_qwenvl", "paddleformers"],
    "last": ["paddleformers.transformers.auto.modeling", "paddlemix_qwenvl"],
}
for module in ORDERS[sys.argv[1]]:
    import_module(module)

import paddle  # noqa: E402
import paddleformers.transformers as host  # noqa: E402
import qwen_vl_model  # noqa: E402
import transformers  # noqa: E402
from hosts.formers.layout import layout  # noqa: E402
from paddleformers.trainer import Trainer, TrainingArguments  # noqa: E402
from reference.qwen_vl import qwen_vl_cases  # noqa: E402

from paddlemix_qwenvl import hub  # noqa: E402
from paddlemix_qwenvl.engine.generate import Generates  # noqa: E402
from paddlemix_qwenvl.models.family import families, family_named  # noqa: E402

PICTURE = str(TESTS.parent / "examples" / "images" / "shapes.png")
MODELS = ("AutoModel", "AutoModelForConditionalGeneration", "AutoModelForCausalLM")


def write_qwen_vl() -> Path:
    config = qwen_vl_cases.CONFIGS["wide"]
    return qwen_vl_model.write(Path(tempfile.mkdtemp()), config, qwen_vl_cases.tensors(config))


def write_qwen2_vl() -> Path:
    """The demo's tokenizer and processor beside a random model."""
    folder = shutil.copytree(hub.DEMO, Path(tempfile.mkdtemp(), "model"))
    family, config = family_named("qwen2_vl"), json.loads((folder / "config.json").read_text())
    vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "hidden_size": config["hidden_size"]}
    names = {"model_type": family.model_type, "architectures": [family.classes["model"][1]]}
    (folder / "config.json").write_text(json.dumps({**config, **names, "vision_config": vision}))
    paddle.seed(0)
    model = family.load("model")._from_config(family.load("config").from_pretrained(folder), dtype="float32")
    model.save_pretrained(folder)
    return folder


def ask(model, processor) -> tuple[str, list[int]]:
    """Answer and its token ids."""
    content = [{"type": "image", "image": PICTURE}, {"type": "text", "text": "Describe the picture."}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    inputs = processor(text=[text], images=[PICTURE], padding=True, return_tensors="pd")
    ids, scores = model.generate(**inputs, max_new_tokens=24)
    assert scores.shape == [1, 1]
    return processor.batch_decode(ids, skip_special_tokens=True)[0], ids[0].tolist()


def answer_through_all(family_name: str, folder: Path) -> None:
    family, load = family_named(family_name), functools.partial(getattr, host)
    core = type("Core", (Generates, family.load("model")), {})
    expected = ask(core.from_pretrained(folder), family.load("processor").from_pretrained(folder))
    config, processor = (load(name).from_pretrained(folder) for name in ("AutoConfig", "AutoProcessor"))
    assert isinstance(config, family.load("config")) and isinstance(config, host.PretrainedConfig)
    assert isinstance(processor, family.load("processor"))
    assert isinstance(load("AutoTokenizer").from_pretrained(folder), family.load("tokenizer"))
    for name in MODELS:
        model = load(name).from_pretrained(folder)
        assert isinstance(model, family.load("model")) and isinstance(model, host.PretrainedModel)
        assert type(model.config) is type(config) and model.can_generate()
        said = ask(model, processor)
        assert said == expected, (said, expected)
        print(f"{family.title} {name} {type(model).__module__}: {said[0]!r}")
    made = load("AutoModelForCausalLM").from_config(config, dtype="float32")
    assert type(made) is type(model)
    with tempfile.TemporaryDirectory() as saved:
        # As PaddleFormers' Trainer calls it.
        model.save_pretrained(saved, True, merge_tensor_parallel=False, save_to_hf=True, save_checkpoint_format=None)
        processor.save_pretrained(saved)
        again = load("AutoModelForConditionalGeneration").from_pretrained(saved)
        assert ask(again, load("AutoProcessor").from_pretrained(saved)) == expected
        print(f"{family.title} saved: {', '.join(sorted(path.name for path in Path(saved).iterdir()))}")


def train(family_name: str, folder: Path) -> None:
    """Two steps of PaddleFormers' Trainer, and what it saves."""
    model, processor = (
        getattr(host, name).from_pretrained(folder) for name in ("AutoModelForCausalLM", "AutoProcessor")
    )
    row = {name: paddle.to_tensor([1, 2, 3, 4]) for name in ("input_ids", "labels")}
    with tempfile.TemporaryDirectory() as output:
        settings = {"max_steps": 2, "save_steps": 9, "learning_rate": 1e-3, "per_device_train_batch_size": 2}
        arguments = TrainingArguments(output, device="cpu", report_to="none", amp_master_grad=False, **settings)
        trainer = Trainer(model, args=arguments, train_dataset=[row] * 4, processing_class=processor)
        loss = trainer.train().training_loss
        trainer.save_model(output, last_fc_to_hf=True)
        again = host.AutoModel.from_pretrained(output)
        host.AutoProcessor.from_pretrained(output)
        model.eval()
        ids = row["input_ids"].unsqueeze(0)
        assert (model(input_ids=ids).logits == again(input_ids=ids).logits).all()
        print(f"{family_named(family_name).title} trained: loss {loss:.3f}, {', '.join(sorted(os.listdir(output)))}")


def check_others() -> None:
    """Other models are PaddleFormers' own, and transformers' Auto classes are transformers' own."""
    for model_type, name in [("qwen2", "Qwen2Config"), ("qwen3_vl", "Qwen3VLConfig"), ("qwen3_5", "Qwen3_5Config")]:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps({"model_type": model_type}))
            assert type(host.AutoConfig.from_pretrained(folder)).__name__ == name
    for name in ("AutoConfig", "AutoTokenizer", "AutoProcessor", "AutoImageProcessor"):
        method = getattr(transformers, name).from_pretrained.__func__
        assert method.__module__.startswith("transformers.") and not hasattr(method, "_paddlemix_qwenvl")
    print("others: as before")


assert layout() == json.loads(Path(__file__).with_name("layout.json").read_text())
folders = {"qwen2_5_vl": hub.DEMO, "qwen2_vl": write_qwen2_vl(), "qwen_vl": write_qwen_vl()}
assert folders.keys() == {family.name for family in families()}
for family_name, folder in folders.items():
    answer_through_all(family_name, folder)
    train(family_name, folder)
check_others()
