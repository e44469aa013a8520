"""How the registry of the PaddleMIX on the path is laid out: classes, bases, members, nested mappings. Run it to make
`layout.json` from the real one."""

import inspect
import json
from importlib import import_module

REGISTRY = {
    "configuration": ["AutoConfigMIX"],
    "modeling": ["AutoModelMIX", "_MIXBaseAutoModelClass"],
    "processing": ["AutoProcessorMIX"],
    "tokenizer": ["AutoTokenizerMIX"],
}


def registry_layout() -> dict:
    """Class -> its bases and members, as JSON has them."""
    found = {}
    for module, classes in REGISTRY.items():
        for name in classes:
            auto_class = getattr(import_module(f"paddlemix.auto.{module}"), name)
            members = {
                key: _member(value)
                for key, value in vars(auto_class).items()
                if not key.startswith("__") and not _is_ours(value, name)
            }
            found[name] = {"bases": [base.__name__ for base in auto_class.__mro__], "members": members}
    return found


def _is_ours(value, class_name: str) -> bool:
    """Whether it is a method of a base class that our registry has wrapped for this one."""
    return isinstance(value, classmethod) and not value.__func__.__qualname__.startswith(class_name)


def _member(value):
    """A method with its parameters, or data down to the types it holds."""
    if isinstance(value, classmethod):
        return ["classmethod", *inspect.signature(value.__func__).parameters]
    return _data(value)


def _data(value):
    if isinstance(value, dict):
        return [type(value).__name__, *sorted({json.dumps([_data(k), _data(v)]) for k, v in value.items()})]
    if isinstance(value, list | tuple):
        return [type(value).__name__, *sorted({json.dumps(_data(v)) for v in value})]
    return "class" if inspect.isclass(value) else type(value).__name__


if __name__ == "__main__":
    print(json.dumps(registry_layout(), sort_keys=True, indent=1))
