"""Qwen-VL, Qwen2-VL and Qwen2.5-VL on Paddle, and in PaddleNLP, PaddleMIX and PaddleFormers.

Importing this package makes the hosts' Auto classes find all families (see `hosts/registry.py`). It loads neither a host nor
Paddle: the names below are loaded when they are first used.
"""

import importlib

from paddlemix_qwenvl import threads  # noqa: F401  (it looks whether Paddle is there yet)
from paddlemix_qwenvl.hosts import registry
from paddlemix_qwenvl.models.family import families

_MODULES = {
    "process_vision_info": "paddlemix_qwenvl.media",
    **{name: "paddlemix_qwenvl.hosts.public" for family in families() for _, name in family.classes.values()},
}

__all__ = [*_MODULES]


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__():
    return sorted({*globals(), *__all__})


registry.register()
