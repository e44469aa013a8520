"""Qwen-VL, the first generation. Names load on first use."""

import importlib

_MODULES = {
    "QWenVLConfig": "configuration",
    "QWenLMHeadModel": "modeling",
    "QWenVLImageProcessor": "processing",
    "QWenVLProcessor": "processing",
    "QWenVLTokenizer": "tokenizer",
}

__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
