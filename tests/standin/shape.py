"""Prints, as JSON, how the registry of the PaddleMIX on the path is laid out: classes, bases, members, nested mappings."""

import inspect
import json
from importlib import import_module

REGISTRY = {
    "configuration": ["AutoConfigMIX"],
    "modeling": ["AutoModelMIX", "_MIXBaseAutoModelClass"],
    "processing": ["AutoProcessorMIX"],
    "tokenizer": ["AutoTokenizerMIX"],
}


def member(value):
    """What a class attribute is: a method with its parameters, or data down to the types it holds."""
    if isinstance(value, classmethod):
        return ["classmethod", *inspect.signature(value.__func__).parameters]
    if inspect.isfunction(value):
        return ["method", *inspect.signature(value).parameters]
    return data(value)


def data(value):
    if isinstance(value, dict):
        return [type(value).__name__, *sorted({json.dumps([data(k), data(v)]) for k, v in value.items()})]
    if isinstance(value, list | tuple):
        return [type(value).__name__, *sorted({json.dumps(data(v)) for v in value})]
    return "class" if inspect.isclass(value) else type(value).__name__


def shape():
    found = {}
    for module, classes in REGISTRY.items():
        for name in classes:
            auto_class = getattr(import_module(f"paddlemix.auto.{module}"), name)
            members = {key: member(value) for key, value in vars(auto_class).items() if not key.startswith("__")}
            found[name] = {"bases": [base.__name__ for base in auto_class.__mro__], "members": members}
    return found


if __name__ == "__main__":
    print(json.dumps(shape(), sort_keys=True, indent=1))
