"""Which source a model comes from: what the caller says, what the environment says, and what the caches hold."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from paddlemix_qwenvl.errors import ConfigurationError, DownloadError
from paddlemix_qwenvl.hub.cache import ADAPTER_CONFIG, CONFIG, is_complete
from paddlemix_qwenvl.hub.huggingface import HuggingFace
from paddlemix_qwenvl.hub.services import AIStudio, ModelScope, PaddleNLP

SOURCES = {source.key: source for source in (PaddleNLP, HuggingFace, ModelScope, AIStudio)}  # the default first
NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*){0,3}")
REVISION = re.compile(r"[\w-][\w.+-]*(/[\w-][\w.+-]*){0,9}")
_YES, _NO = ("1", "y", "t", "yes", "true", "on"), ("", "0", "n", "f", "no", "false", "off")


def choose(
    name: str,
    subfolder: str | None = "",
    source: str | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    download_hub: str | None = None,
    from_hf_hub: bool = False,
    from_aistudio: bool = False,
):
    """The source of a model: the one that is asked for (`asked`); or else the one whose cache holds all of it, or its config at
    least, in the order of `SOURCES`; or else PaddleNLP's storage.

    No other source is gone to in silence where that one does not have the model: the same name may be somebody else's there.

    Raises:
        ConfigurationError: a source that there is not, two at once, a revision where a source has none, or no path.
        DownloadError: `name` cannot be a model's.
    """
    if revision is not None and not (isinstance(revision, str) and REVISION.fullmatch(revision)):
        raise ConfigurationError(f"revision is {revision!r}: expected a branch, a tag or a commit, such as 'main'.")
    if not isinstance(cache_dir, str | os.PathLike | None):
        raise ConfigurationError(f"cache_dir is {cache_dir!r}: expected the path of a folder.")
    if subfolder and not (isinstance(subfolder, str) and NAME.fullmatch(subfolder.strip("/"))):
        raise ConfigurationError(f"subfolder is {subfolder!r}: expected a folder of the model, such as 'vision'.")
    if not NAME.fullmatch(name):
        raise DownloadError(
            f"{name!r} is no folder that is there, and no model's name: give a folder's path, or a name such as "
            f"'Qwen/Qwen2.5-VL-3B-Instruct'."
        )
    key = asked(source, download_hub, from_hf_hub, from_aistudio)
    if key is not None:
        return SOURCES[key](name, revision, cache_dir)
    kinds = [kind for kind in SOURCES.values() if kind.main or not revision]
    begun = None
    for kind in kinds:
        candidate = kind(name, revision, cache_dir)
        folder = candidate.folder / (subfolder or "")
        if is_complete(folder):
            return candidate
        if begun is None and any(os.path.isfile(folder / file) for file in (CONFIG, ADAPTER_CONFIG)):
            begun = candidate
    return begun or PaddleNLP(name, revision, cache_dir)


def asked(
    source: str | None = None,
    download_hub: str | None = None,
    from_hf_hub: bool = False,
    from_aistudio: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> str | None:
    """The key of the source that is asked for, None if none is.

    The first that says something: the arguments `source` and `download_hub` (PaddleFormers'), the variable `from_modelscope`,
    which PaddleNLP puts before the arguments `from_hf_hub` and `from_aistudio` (PaddleNLP's), these arguments, and the variables
    `QWENVL_SOURCE` and `DOWNLOAD_SOURCE` (PaddleFormers').

    Raises:
        ConfigurationError: a source that there is not, or two at once.
    """
    given = {"source": source, "download_hub": download_hub}
    given |= {"from_hf_hub": "huggingface" if _is_on("from_hf_hub", from_hf_hub) else None}
    given |= {"from_aistudio": "aistudio" if _is_on("from_aistudio", from_aistudio) else None}
    given = {name: _known(name, value) for name, value in given.items() if value not in (None, "")}
    if len({*given.values()}) > 1:
        raise ConfigurationError(f"{', '.join(given)} ask for {', '.join(given.values())}: give one source.")
    if "source" in given or "download_hub" in given:
        return next(iter(given.values()))
    if _is_on("the variable from_modelscope", environment.get("from_modelscope", "")):
        return "modelscope"
    variables = {name: environment.get(name, "").strip() for name in ("QWENVL_SOURCE", "DOWNLOAD_SOURCE")}
    given |= {f"the variable {name}": value for name, value in variables.items() if value}
    return next((_known(name, value) for name, value in given.items()), None)


def describe(source) -> str:
    """Where a source looks: in its cache, then at its address."""
    return f"the cache {source.root}, then {source.title} at {source.endpoint} (variable {source.variable})"


def others(source) -> str:
    """The keys of the other sources, to choose from."""
    *first, last = (repr(key) for key in SOURCES if key != source.key)
    return f"{', '.join(first)} or {last}"


def is_offline() -> bool:
    """Whether the Hugging Face Hub's variables forbid downloads: they do so for every source."""
    return any(_is_on(name, os.environ.get(name, "")) for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def _known(name: str, value: str) -> str:
    if not isinstance(value, str) or value not in SOURCES:
        raise ConfigurationError(f"{name} is {value!r}: it must be one of {', '.join(SOURCES)}.")
    return SOURCES[value].key


def _is_on(name: str, value: str | bool | None) -> bool:
    """Whether a switch is on, spelled as PaddleNLP and `huggingface_hub` take it."""
    word = str(value if value is not None else "").strip().lower()
    if word not in _YES + _NO:
        raise ConfigurationError(f"{name} is {value!r}: expected true or false.")
    return word in _YES
