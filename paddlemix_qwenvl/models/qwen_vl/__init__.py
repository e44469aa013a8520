"""Qwen-VL, the first generation. Names load on first use."""

import importlib

_MODULES = {
    "QWenVLConfig": "config",
    "QWenLMHeadModel": "model",
    "QWenVLImageProcessor": "processor",
    "QWenVLProcessor": "processor",
    "QWenVLTokenizer": "tokenizer",
}

__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
