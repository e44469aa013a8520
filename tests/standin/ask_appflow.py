"""Imports modules in the order of the command line, asks the package's demo about the picture that is the first argument, through
PaddleMIX's Appflow and through PaddleNLP's Auto classes, and prints both answers and how Appflow is laid out, as a line of JSON."""

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
from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor  # noqa: E402

from paddlemix_qwenvl.media import load_image  # noqa: E402


def kinds(found):
    return {key: type(value).__name__ for key, value in found.items()}


application = APPLICATIONS["image2text_generation"]
methods = {
    f"{part.__name__}.{name}": getattr(part, name) for part in (Appflow, AppTask) for name in ("__init__", "__call__")
}
layout = {name: [*inspect.signature(method).parameters] for name, method in methods.items()} | {
    "application": kinds(application),
    "models": sorted({json.dumps(kinds(entry)) for entry in application["models"].values()}),
    "default": kinds(application["default"]),
}
task = Appflow(app="image2text_generation", models=["demo"])
given = {"image": picture, "prompt": "Describe the picture."}
said = task(**given)

model, processor = AutoModelForConditionalGeneration.from_pretrained("demo"), AutoProcessor.from_pretrained("demo")
content = [{"type": "image"}, {"type": "text", "text": given["prompt"]}]
text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)
ids, _ = model.generate(**processor(text=[text], images=[load_image(picture)], return_tensors="pd"))
answer = processor.batch_decode(ids, skip_special_tokens=True)[0]
print(json.dumps({"said": said, "expected": {**given, "result": answer}, "layout": layout}))
