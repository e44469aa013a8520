"""Imports modules in the order of the command line, asks the package's demo about the picture that is the first argument, through
each Auto class of PaddleNLP and PaddleMIX and through PaddleMIX's Appflow, and prints the answers and how Appflow is laid out, as
a line of JSON."""

import inspect
import json
import sys
from importlib import import_module

picture, *modules = sys.argv[1:]
for module in modules:
    import_module(module)

from paddlemix.appflow import Appflow  # noqa: E402
from paddlemix.appflow.apptask import AppTask  # noqa: E402
from paddlemix.appflow.configuration import APPLICATIONS  # noqa: E402
from paddlemix.auto import AutoModelMIX, AutoProcessorMIX  # noqa: E402
from paddlenlp import transformers as nlp  # noqa: E402

QUESTION = "Describe the picture."


def kinds(found):
    return {key: type(value).__name__ for key, value in found.items()}


def ask(model, processor):
    content = [{"type": "image", "image": picture}, {"type": "text", "text": QUESTION}]
    messages = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids, _ = model.generate(**processor(text=[text], images=[picture], padding=True, return_tensors="pd"))
    return processor.batch_decode(ids, skip_special_tokens=True)[0]


application = APPLICATIONS["image2text_generation"]
methods = {
    f"{part.__name__}.{name}": getattr(part, name) for part in (Appflow, AppTask) for name in ("__init__", "__call__")
}
layout = {name: [*inspect.signature(method).parameters] for name, method in methods.items()} | {
    "application": kinds(application),
    "models": sorted({json.dumps(kinds(entry)) for entry in application["models"].values()}),
    "default": kinds(application["default"]),
}
answers = {"AutoModelMIX": ask(AutoModelMIX.from_pretrained("demo"), AutoProcessorMIX.from_pretrained("demo")[0])}
for name in ("AutoModel", "AutoModelForConditionalGeneration", "AutoModelForCausalLM"):
    answers[name] = ask(getattr(nlp, name).from_pretrained("demo"), nlp.AutoProcessor.from_pretrained("demo"))
appflow = Appflow(app="image2text_generation", models=["demo"])(image=picture, prompt=QUESTION)
print(json.dumps({"answers": answers, "appflow": appflow, "layout": layout}))
