"""The record of a family of models, and the one list of families. Needs neither Paddle nor a host.

A family is a folder of this package whose `FAMILY` is its record, and one line in `NAMES`.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType

from paddlemix_qwenvl.errors import ConfigurationError

NAMES = (
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen_vl",
)
"""Folders of the families; the first that has a size is meant where a size is all that is given."""
IDENTITY_FILES = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json")
"""Files that may say what a folder holds, the first that does so decides."""


@dataclass(frozen=True)
class Family:
    """A family of models: where its classes are, and which configurations are its own.

    Attributes:
        name: of its folder, and in an export's manifest.
        title: as people write it.
        model_type: in a `config.json`.
        classes: kind ("config", "model", "tokenizer", "processor", "image_processor") -> module and name of the class.
        claims: tells from the content of one of the `IDENTITY_FILES`.
        hub_names: how its names on the hubs begin. A download that fails is reported by us for these, by the host for others.
        sizes: "7B" -> what is given to the config's class, of the checkpoints that are known without a download.
    """

    name: str
    title: str
    model_type: str
    classes: Mapping[str, tuple[str, str]]
    claims: Callable[[Mapping], bool]
    hub_names: tuple[str, ...]
    sizes: Mapping[str, Mapping] = field(default_factory=dict)

    def load(self, kind: str) -> type:
        """The class for that kind, imported if need be."""
        module, name = self.classes[kind]
        return getattr(self.module(module), name)

    def module(self, name: str) -> ModuleType:
        """A file of the family's folder: `vision` has a `VisionGraph` to export, `positions` the `prompts` of an engine."""
        return importlib.import_module(f"paddlemix_qwenvl.models.{self.name}.{name}")

    def has_type_of(self, content: Mapping) -> bool:
        """Whether a configuration says this family's model type or names its model's class, whether it is claimed or not."""
        return content.get("model_type") == self.model_type or names_class(content, self.classes["model"][1])

    def known_size(self, name: str) -> str | None:
        """The one of `sizes` that `name` is, or is the hubs' name of."""
        size = name.removeprefix(next(filter(name.startswith, self.hub_names), "")).replace("-Instruct", "", 1)
        return size if size in self.sizes else None


def usual_family(
    name: str, title: str, prefix: str, sizes: Mapping[str, Mapping], shared: tuple[str, ...] = ()
) -> Family:
    """The record of a family that names itself as those of transformers do.

    Args:
        name: of its folder, and its model type.
        title: as people write it, and as its names on the hubs begin.
        prefix: how the names of its classes begin.
        sizes: as in `Family`.
        shared: kinds whose class's name tells nothing, because folders of other families have it, too.
    """
    kinds = {
        "config": "Config",
        "tokenizer": "Tokenizer",
        "processor": "Processor",
        "image_processor": "ImageProcessor",
        "model": "ForConditionalGeneration",
    }
    telling = [prefix + ending for kind, ending in kinds.items() if kind not in shared]
    return Family(
        name=name,
        title=title,
        model_type=name,
        classes={kind: (kind, prefix + ending) for kind, ending in kinds.items()},
        claims=lambda content: content.get("model_type") == name or names_class(content, *telling),
        hub_names=(f"Qwen/{title}-",),
        sizes=sizes,
    )


@functools.cache
def families() -> tuple[Family, ...]:
    """All of them."""
    return tuple(importlib.import_module(f"paddlemix_qwenvl.models.{name}").FAMILY for name in NAMES)


def family_of(content: Mapping) -> Family | None:
    """The family that claims the content of a `config.json` or of another of the `IDENTITY_FILES`."""
    return next((family for family in families() if family.claims(content)), None)


def family_named(name: str) -> Family | None:
    """The family of that name in a manifest."""
    return next((family for family in families() if family.name == name), None)


def family_of_config(config) -> Family:
    """The family of a config object.

    Raises:
        ConfigurationError: it is of no family.
    """
    found = [family for family in families() if isinstance(config, family.load("config"))]
    # A config of Qwen2-VL is one of Qwen2.5-VL, too.
    family = next((family for family in found if family.model_type == config.model_type), None)
    if family is None:
        raise ConfigurationError(f"a config of type {type(config).__name__} is of no family: there are {titles()}.")
    return family


def titles() -> str:
    """All families by name, for messages."""
    return ", ".join(f"{family.title} ({family.model_type!r})" for family in families())


def names_class(content: Mapping, *class_names: str) -> bool:
    """Whether a configuration names one of these classes as its model, processor, image processor or tokenizer."""
    keys = ("init_class", "processor_class", "image_processor_type", "tokenizer_class")
    return any(name in class_names for name in (*architectures(content), *map(content.get, keys)))


def architectures(content: Mapping) -> list[str]:
    """Names of model classes in a configuration, without what is no name."""
    named = content.get("architectures")
    return [name for name in named if name and isinstance(name, str)] if isinstance(named, list) else []


def identity_of(folder: str | os.PathLike) -> dict:
    """What the first of a folder's `IDENTITY_FILES` says that says what it is; what the first one says if none does."""
    contents = [read_identity(os.path.join(folder, file)) for file in IDENTITY_FILES]
    return next(filter(_says_what_it_is, contents), contents[0])


def read_identity(path: str | os.PathLike) -> dict:
    """A settings file's object, `{}` where it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _says_what_it_is(content: dict) -> bool:
    kind = content.get("model_type")
    return family_of(content) is not None or (isinstance(kind, str) if kind else bool(architectures(content)))
