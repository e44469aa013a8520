"""The classes under this package's own names: of PaddleNLP's kind where it is installed, and else our own."""

from __future__ import annotations

from importlib.util import find_spec

from paddlemix_qwenvl.engine.generate import generating
from paddlemix_qwenvl.models.family import families


def __getattr__(name: str) -> type:
    for family in families():
        for kind, (_, class_name) in family.classes.items():
            if class_name == name:
                return _public(family.load(kind), kind)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _public(core: type, kind: str) -> type:
    if find_spec("paddlenlp") is not None:
        from paddlemix_qwenvl.hosts import paddlenlp

        return paddlenlp.adapt(core)
    if kind != "model":
        return core
    model = generating(core)
    model.__module__ = __name__  # where pickle finds it
    return model
