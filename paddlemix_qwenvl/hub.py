"""Where a model's files come from: the model inside this package, a local folder, or a download by PaddleNLP."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from paddlemix_qwenvl.errors import DownloadError

DEMO = Path(__file__).with_name("demo")
CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
SOURCE_OPTIONS = ("cache_dir", "subfolder", "from_hf_hub", "from_aistudio", "force_download")
PATIENCE = 20  # seconds until a source that does not answer is given up


def locate(name: str) -> str:
    """The folder of the model that ships with this package if `name` is "demo", else `name` itself.

    A local folder called `demo` goes first if it holds a model.
    """
    if name == "demo" and not Path("demo", "config.json").is_file():
        return str(DEMO)
    return name


def take_source(options: dict) -> dict:
    """Takes out of keyword arguments those that say where a name is looked up, as `fetch` has them, and returns them."""
    return {name: options.pop(name) for name in SOURCE_OPTIONS if name in options}


def fetch(
    name: str,
    filename: str | Sequence[str],
    subfolder: str | None = "",
    cache_dir: str | None = None,
    from_hf_hub: bool = False,
    from_aistudio: bool = False,
    force_download: bool = False,
) -> str:
    """Path of a small file of the model `name`, or of the first of several that it has: from the cache, or downloaded by
    PaddleNLP's `resolve_file_path`.

    PaddleNLP's timeouts hold for each request and each address of a server, and name lookups have none: so the whole
    gets `PATIENCE` seconds.

    Raises:
        DownloadError: no such file there, or no answer in time; the message names the sources that were tried.
    """
    from paddlenlp.utils.download import resolve_file_path

    filenames = [filename] if isinstance(filename, str) else [*filename]
    sources = {"cache_dir": cache_dir, "from_hf_hub": from_hf_hub, "from_aistudio": from_aistudio}
    try:
        path = _within(
            PATIENCE,
            lambda: resolve_file_path(name, filenames, subfolder or "", force_download=force_download, **sources),
        )
    except (TimeoutError, concurrent.futures.TimeoutError) as error:
        reason, cause = f"it gave no answer within {PATIENCE} s", error
    except (OSError, ValueError) as error:
        cause = error.__context__ or error
        reason = f"{type(cause).__name__}: {cause}"
    else:
        if path is not None:
            return path
        reason, cause = "it does not have the file, or could not be reached", None
    raise DownloadError(
        f"{filenames[0]} of {name!r} could not be had. Tried: {_tried(**sources)}: {reason}. "
        "Check the name, the network and the proxy settings; or take another source with from_hf_hub=True or "
        "from_aistudio=True; or point that variable to a mirror; or give the path of a folder that holds the model."
    ) from cause


def gather(name: str | os.PathLike, files: Iterable[str], subfolder: str | None = "", **source) -> Path:
    """The folder of a model, with as many of the small `files` as it has; of a name, where they were downloaded to.

    Args:
        source: as in `fetch`.

    Raises:
        DownloadError: a name whose `config.json` no source has, or that cannot be reached.
    """
    found = Path(locate(str(name)))
    if found.is_dir():
        return found / (subfolder or "")
    folder = Path(fetch(str(found), "config.json", subfolder, **source)).parent
    for file in files:
        with contextlib.suppress(DownloadError):
            fetch(str(found), file, subfolder, **source)
    return folder


def _within(seconds: float, function):
    """`function()`, or a timeout. A thread that waits for a socket cannot be stopped: it is left behind as a daemon."""
    result = concurrent.futures.Future()

    def work():
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return result.result(seconds)


def _tried(cache_dir: str | None, from_hf_hub: bool, from_aistudio: bool) -> str:
    """The cache and the source that PaddleNLP goes to, in its own order of preference."""
    from huggingface_hub import constants as huggingface
    from paddlenlp.utils.download import strtobool
    from paddlenlp.utils.download.aistudio_hub_download import AISTUDIO_HUB_CACHE
    from paddlenlp.utils.download.aistudio_hub_download import ENDPOINT as AISTUDIO
    from paddlenlp.utils.download.bos_download import ENDPOINT as BOS
    from paddlenlp.utils.env import MODEL_HOME

    if strtobool(os.environ.get("from_modelscope", False)):  # noqa: SIM112, the name is PaddleNLP's
        return "ModelScope (variable from_modelscope)"
    if from_aistudio:
        cache, source = AISTUDIO_HUB_CACHE, f"AI Studio at {AISTUDIO} (variable AISTUDIO_ENDPOINT)"
    elif from_hf_hub:
        cache, source = huggingface.HF_HUB_CACHE, f"Hugging Face Hub at {huggingface.ENDPOINT} (variable HF_ENDPOINT)"
    else:
        cache, source = MODEL_HOME, f"PaddleNLP's storage BOS at {BOS} (variable PPNLP_ENDPOINT)"
    return f"the cache {cache_dir or cache}, then {source}"
