"""Imports modules in the order of the command line, then prints which class each Auto class hands out for the folder that is the
first argument, and how PaddleMIX's registry is laid out, as one line of JSON."""

import json
import sys
from importlib import import_module
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))
from standin.layout import registry_layout

folder, *modules = sys.argv[1:]
for module in modules:
    import_module(module)

from paddlemix_qwenvl.hosts import registry  # noqa: E402


def names(loaded):
    if isinstance(loaded, tuple):
        return [names(part) for part in loaded]
    return f"{type(loaded).__module__}.{type(loaded).__name__}"


layout = registry_layout()
classes = {
    name: names(getattr(import_module(module), name).from_pretrained(folder))
    for module, auto_classes in registry.SEAM.items()
    if not module.startswith("paddleformers")  # which cannot be there beside PaddleNLP
    for name in auto_classes
}
print(json.dumps({"classes": classes, "layout": layout, "paddlemix": sys.modules["paddlemix"].__file__}))
