"""What the hosts that grew out of PaddleNLP have alike."""

from __future__ import annotations

import dataclasses
from typing import Any


def generation_config(host_class: type, values: dict):
    """The host's `GenerationConfig` of these values, its `max_new_tokens` None where they do not say."""
    taken = {"self", *dir(host_class)}
    config = host_class(**{name: value for name, value in values.items() if name not in taken})
    config.max_new_tokens = values.get("max_new_tokens")
    return config


def output_class(core: type, host_class: type) -> type:
    """The host's `ModelOutput` with the fields of a model's output."""
    names = [(field.name, Any, None) for field in dataclasses.fields(core)]
    return dataclasses.make_dataclass(core.__name__, names, bases=(host_class,), namespace={"__doc__": core.__doc__})
