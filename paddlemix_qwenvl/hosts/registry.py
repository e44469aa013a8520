"""Makes the hosts' Auto classes find this package's models; no other file touches PaddleNLP's or PaddleMIX's registry.

The seam is the public `from_pretrained` of each Auto class, and `from_config` of those of models: a wrapper reads the
model's `config.json`, hands over to our class if a family claims it, and to the host's own method otherwise.
A host that is not imported yet is adapted the moment it is, module by module, by a finder on `sys.meta_path`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.util
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import QwenVLError
from paddlemix_qwenvl.models.family import Family, families, family_of, identity_of, read_identity

# Module of a host's `transformers.auto` -> its Auto classes -> what each of them hands out.
_AUTO = {
    "configuration": {"AutoConfig": "config"},
    "modeling": {
        "AutoModel": "model",
        "AutoModelForConditionalGeneration": "model",
        "AutoModelForCausalLM": "model",
    },
    "tokenizer": {"AutoTokenizer": "tokenizer"},
    "processing": {"AutoProcessor": "processor"},
    "image_processing": {"AutoImageProcessor": "image_processor"},
}
_LIBRARIES = ("paddlenlp", "paddleformers")
# Host module -> its Auto classes -> what each of them hands out.
SEAM = {
    **{f"{host}.transformers.auto.{module}": _AUTO[module] for host in _LIBRARIES for module in _AUTO},
    "paddlemix.auto.configuration": {"AutoConfigMIX": "config"},
    "paddlemix.auto.modeling": {"AutoModelMIX": "model"},
    "paddlemix.auto.tokenizer": {"AutoTokenizerMIX": "tokenizer"},
    "paddlemix.auto.processing": {"AutoProcessorMIX": "processor"},
}
# Packages that must hold these modules, or the host is not the one we know.
PARENTS = {
    **{f"{host}.transformers": [f"{host}.transformers.auto"] for host in _LIBRARIES},
    **{f"{host}.transformers.auto": [name for name in SEAM if name.startswith(host)] for host in _LIBRARIES},
    "paddlemix": ["paddlemix.auto"],
    "paddlemix.auto": [name for name in SEAM if name.startswith("paddlemix")],
}
# Where each host, and what it builds on, has models of its own.
MODELS = {
    "paddlenlp": ("paddlenlp.transformers",),
    "paddlemix": ("paddlemix.models", "paddlenlp.transformers"),
    "paddleformers": ("paddleformers.transformers",),
}
# PaddleMIX's pipelines, which take a model's name too (`hosts.appflow`).
APPFLOW = "paddlemix.appflow.appflow"
# Auto classes whose from_pretrained returns the processor and its tokenizer.
RETURNING_PAIRS = ("AutoProcessorMIX",)
# Keyword arguments that the hosts' Auto classes take out of **kwargs for themselves.
HOST_ARGUMENTS = ("use_fast", "tokenizer_type", "train", "eval")
# What PaddleNLP 3.0.0b4 takes for a plain language model, or fails on without a word of what it is.
MISTAKEN = (
    "qwen2_audio",
    "qwen2_5_omni",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_omni_moe",
    "qwen3_5",
    "qwen3_5_moe",
)


def register() -> None:
    """Adapt the hosts: at once what is imported, the rest when it is. Doing it again changes nothing."""
    if not any(isinstance(finder, _HostFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _HostFinder())
    for name in (*PARENTS, *SEAM, APPFLOW):
        if sys.modules.get(name) is not None:
            _adapt(importlib.import_module(name))  # waits for a thread that is in the middle of importing it


class _HostFinder(importlib.abc.MetaPathFinder):
    """Finds the hosts' modules as everyone else does, and has each adapted once it is loaded."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in (*PARENTS, *SEAM, APPFLOW):
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _AdaptingLoader(spec.loader)
        return spec


class _AdaptingLoader(importlib.abc.Loader):
    """Steps aside for the real loader, then adapts what it loaded."""

    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        _adapt(module)


def _adapt(module) -> None:
    """Wrap the Auto classes of a host's module; warn of each class, and each module, that is not where it should be."""
    name = module.__name__
    missing = [child for child in PARENTS.get(name, ()) if child not in sys.modules and not _exists(child)]
    for class_name, kind in SEAM.get(name, {}).items():
        auto_class = getattr(module, class_name, None)
        if not inspect.ismethod(getattr(auto_class, "from_pretrained", None)):
            missing.append(f"{name}.{class_name}.from_pretrained")
            continue
        _wrap(auto_class, "from_pretrained", functools.partial(_from_pretrained, kind))
        if kind == "model" and inspect.ismethod(getattr(auto_class, "from_config", None)):
            _wrap(auto_class, "from_config", _from_config)
    if name == APPFLOW:
        from paddlemix_qwenvl.hosts import appflow

        missing += appflow.adapt(module, _is_ours)
    if missing:
        host = sys.modules[name.partition(".")[0]]
        warnings.warn(
            f"{host.__name__} {getattr(host, '__version__', '')} is not laid out as paddlemix_qwenvl expects: "
            f"it has no {', no '.join(missing)}. This package's models are not found through these: load them by this "
            "package's own classes, or install a version that it knows (constraints.txt).",
            RuntimeWarning,
            stacklevel=2,
        )


def _exists(module_name: str) -> bool:
    try:
        return importlib.util.find_spec(module_name) is not None
    except ImportError:
        return False


def _wrap(auto_class: type, method: str, ours: Callable) -> None:
    """Put `ours(host_method, cls, first, *args, **kwargs)` in front of a class method, once."""
    host_method = getattr(auto_class, method).__func__
    if hasattr(host_method, "_paddlemix_qwenvl"):
        return

    @functools.wraps(host_method)
    def wrapper(cls, *args, **kwargs):
        return ours(host_method, cls, *args, **kwargs)

    wrapper._paddlemix_qwenvl = True
    setattr(auto_class, method, classmethod(wrapper))


def _from_pretrained(kind: str, host_method, cls, /, pretrained_model_name_or_path, *args, **kwargs):
    name = pretrained_model_name_or_path
    if isinstance(name, str | os.PathLike):
        name = hub.locate(os.fspath(name))
        source = _source(cls, kwargs)
        identity, folder = _identity(name, **source)
        family = family_of(identity)
        if family is not None and kind in family.classes:
            # What the host's method names in its own signature is meant for the host alone.
            given = inspect.signature(host_method).bind(cls, name, *args, **kwargs).arguments
            kwargs = {key: value for key, value in given.get("kwargs", {}).items() if key not in HOST_ARGUMENTS}
            loaded_class = host_class(family, kind, _host_of(cls))
            loaded = loaded_class.from_pretrained(name, *given.get("model_args", ()), **(kwargs | source))
            return (loaded, loaded.tokenizer) if cls.__name__ in RETURNING_PAIRS else loaded
        if family is None and kind != "tokenizer":
            _refuse_mistaken(kind, cls, identity, folder)
    return host_method(cls, pretrained_model_name_or_path, *args, **kwargs)


def host_class(family: Family, kind: str, host: str) -> type:
    """A host's kind of a family's class; PaddleMIX's is PaddleNLP's."""
    module = importlib.import_module(f"paddlemix_qwenvl.hosts.{'paddlenlp' if host == 'paddlemix' else host}")
    return module.adapt(family.load(kind))


def _refuse_mistaken(kind: str, auto_class: type, identity: dict, folder: str) -> None:
    """Raises ConfigurationError for what the host would make something else of, or end on with a riddle."""
    from paddlemix_qwenvl.fields import wrong
    from paddlemix_qwenvl.models import unsupported

    if kind in ("config", "model") and folder and not os.path.isfile(os.path.join(folder, hub.CONFIG)):
        unsupported.refuse_adapter(Path(folder))
    model_type, path = identity.get("model_type"), os.path.join(folder, hub.CONFIG)
    # A host has no other model of a family's type for this class, so that it is one of ours whose config.json is damaged.
    damaged = next((family for family in families() if family.has_type_of(identity)), None)
    if damaged is not None and auto_class.__name__ == "AutoModelForConditionalGeneration":
        damaged.load("config").refuse_others(identity, path)
    if kind in ("config", "model") and not isinstance(model_type, str | None):
        raise wrong(path, "model_type", model_type, "text")
    packages = MODELS[_host_of(auto_class)]
    if model_type in MISTAKEN and not any(_exists(f"{package}.{model_type}") for package in packages):
        unsupported.refuse_other_family(identity, "", path)


def _is_ours(name: str | os.PathLike, **source) -> bool:
    """Whether a family claims the model of this name or in this folder; `source` as in `hub.fetch`. What is neither is nobody's."""
    if not isinstance(name, str | os.PathLike):
        return False
    return family_of(_identity(hub.locate(os.fspath(name)), **source)[0]) is not None


def _from_config(host_method, cls, /, config, **kwargs):
    family = family_of(config.to_dict() if hasattr(config, "to_dict") else config)
    if family is not None and _package(type(config)) not in MODELS:  # a host's own config is of a host's own model
        return host_class(family, "model", _host_of(cls))._from_config(config, **kwargs)
    return host_method(cls, config, **kwargs)


def _identity(name: str, subfolder: str | None = "", **sources) -> tuple[dict, str]:
    """What a model says of itself, `{}` if nothing that we can read, and the folder where it does, "" if there is none.

    Raises:
        ConfigurationError, DownloadError: `name` is one of ours, and its `config.json` could not be had.
    """
    if os.path.isfile(name):
        return read_identity(name), os.path.dirname(name)
    if os.path.isdir(name):
        folder = os.path.join(name, subfolder or "")
        return identity_of(folder), folder
    if os.path.isabs(name) or name.startswith(".") or "://" in name or _is_built_in(name):
        return {}, ""
    try:
        path = hub.fetch(name, (hub.CONFIG, hub.ADAPTER_CONFIG), subfolder, **sources)
    except QwenVLError:
        if any(name.startswith(family.hub_names) for family in families()):
            raise
        return {}, ""
    return read_identity(path), os.path.dirname(path)


def _package(of: type) -> str:
    return of.__module__.partition(".")[0]


def _host_of(auto_class: type) -> str:
    """The host of an Auto class, or of what a user's own one inherits from."""
    return next(filter(MODELS.__contains__, map(_package, auto_class.__mro__)))


def _source(auto_class: type, options: dict) -> dict:
    """Where a name is looked up: as the call says; where it does not, PaddleFormers goes to the Hugging Face Hub."""
    source = hub.take_source(options.copy())
    if (
        _host_of(auto_class) == "paddleformers"
        and not {"source", "download_hub", "from_hf_hub", "from_aistudio"} & source.keys()
    ):
        variables = (os.environ.get(name) for name in ("QWENVL_SOURCE", "DOWNLOAD_SOURCE"))
        source["download_hub"] = next(filter(None, variables), "huggingface")
    return source


def _is_built_in(name: str) -> bool:
    """Whether PaddleNLP knows the model without reading anything, so that we must not make it wait for a download. PaddleFormers
    knows none by heart."""
    if "paddlenlp.transformers" not in sys.modules:
        return False
    from paddlenlp.transformers import AutoModel, AutoTokenizer

    tables = (getattr(AutoModel, "_pretrained_model_dict", {}), getattr(AutoTokenizer, "_tokenizer_mapping", {}))
    return any(name in names for table in tables for names in table)
