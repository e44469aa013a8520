"""Qwen2.5-VL. Names load on first use, so that the predictor can take `prompt` and `layout` without PaddleNLP."""

import importlib

_MODULES = {
    "Qwen2_5_VLConfig": "config",
    "Qwen2_5_VLVisionConfig": "config",
    "Qwen2_5_VLForConditionalGeneration": "model",
    "Qwen2_5_VLImageProcessor": "image_processor",
    "Qwen2_5_VLProcessor": "processor",
    "Qwen2_5_VLTokenizer": "tokenizer",
}

__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
