"""Where a model's files come from: the model inside this package, a local folder, a cache, or a download by name.

A name is looked up at one source (`sources.choose`): PaddleNLP's storage, the Hugging Face Hub, ModelScope or AI Studio. What its
cache holds is taken as it is, without asking anybody; `force_download=True` asks.
"""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from paddlemix_qwenvl.errors import DownloadError
from paddlemix_qwenvl.hub.cache import ADAPTER_CONFIG, CONFIG, files_of_index

__all__ = ["ADAPTER_CONFIG", "CONFIG", "DEMO", "SOURCE_OPTIONS", "fetch", "gather", "locate", "snapshot", "take_source"]

DEMO = Path(__file__).parents[1] / "demo"
SOURCE_OPTIONS = (
    *("source", "revision", "cache_dir", "subfolder", "force_download"),
    *("from_hf_hub", "from_aistudio", "download_hub"),  # as PaddleNLP and PaddleFormers have them
)
PATIENCE = 20  # seconds until a source that does not answer is given up


def locate(name: str) -> str:
    """The folder of the model that ships with this package if `name` is "demo", else `name` itself.

    A local folder called `demo` goes first if it holds a model.
    """
    if name == "demo" and not Path("demo", "config.json").is_file():
        return str(DEMO)
    return name


def take_source(options: dict) -> dict:
    """Takes out of keyword arguments those that say where a name is looked up, as `fetch` has them, and returns them.

    Raises:
        ConfigurationError: a source that there is not, even where a folder is loaded that needs none.
    """
    from paddlemix_qwenvl.hub.sources import asked

    taken = {name: options.pop(name) for name in SOURCE_OPTIONS if name in options}
    asked(*map(taken.get, ("source", "download_hub", "from_hf_hub", "from_aistudio")), environment={})
    return taken


def fetch(
    name: str, filename: str | Sequence[str], subfolder: str | None = "", force_download: bool = False, **source
) -> str:
    """Path of a small file of the model `name`, or of the first of several that it has: from the cache, or downloaded.

    Timeouts hold for each request and each address of a server, and name lookups have none: so the whole gets `PATIENCE`
    seconds.

    Args:
        force_download: ask the source although the cache has it.
        source: `source`, `revision`, `cache_dir`, ... as in `sources.choose`.

    Raises:
        ConfigurationError: a source that there is not.
        DownloadError: no such file there, or no answer in time; the message names the sources that were tried.
    """
    from paddlemix_qwenvl.hub.sources import choose

    origin = choose(name, subfolder, **source)
    filenames = [filename] if isinstance(filename, str) else [*filename]
    return str(_first(origin, [_inside(subfolder, file) for file in filenames], force_download))


def gather(
    name: str | os.PathLike, files: Iterable[str], subfolder: str | None = "", force_download: bool = False, **source
) -> Path:
    """The folder of a model, with as many of the small `files` as it has; of a name, where they were downloaded to.

    Args:
        source: as in `fetch`.

    Raises:
        DownloadError: a name whose `config.json` no source has, or that cannot be reached.
    """
    from paddlemix_qwenvl.hub.sources import choose

    found = Path(locate(str(name)))
    if found.is_dir():
        return found / (subfolder or "")
    origin = choose(str(found), subfolder, **source)
    folder = _first(origin, [_inside(subfolder, CONFIG)], force_download).parent
    _bring(origin, [_inside(subfolder, file) for file in files], force_download)
    return folder


def snapshot(
    name: str,
    weights: Sequence[str],
    files: Iterable[str] = (),
    subfolder: str | None = "",
    force_download: bool = False,
    **source,
) -> Path:
    """The folder with all weight files of a model, and as many of the small `files` as it has.

    What is there is taken; the rest is downloaded, in files that a later call goes on with if this one is interrupted. Nothing is
    mixed: all files are of one revision.

    Args:
        weights: names that the weights or their index may have, the first choice first.
        source: as in `fetch`.

    Raises:
        CheckpointError: an index that is none.
        DownloadError: the source has no weights, cannot be reached, or there is no space for them.
    """
    from paddlemix_qwenvl.hub.sources import choose

    origin = choose(name, subfolder, **source)
    candidates = [_inside(subfolder, file) for file in weights]
    if force_download:
        _bring(origin, [_inside(subfolder, CONFIG)], force_download)
    found = _find_weights(origin, candidates, force_download)
    missing = _missing(origin, found, force_download)
    if missing:
        _check_space(origin, missing)
    for file in missing:
        _explained(origin, file, lambda file=file: origin.download(file, force_download))
    _bring(origin, [_inside(subfolder, file) for file in files], force_download)
    return origin.folder / (subfolder or "")


def _inside(subfolder: str | None, file: str) -> str:
    return str(PurePosixPath(subfolder or "", file))


def _first(origin, files: list[str], force: bool) -> Path:
    """The first of several small files that there is."""
    from paddlemix_qwenvl.hub.transfer import Absent

    if not force:
        for file in files:
            if path := origin.cached(file):
                return path

    def download() -> Path:
        for file in files[:-1]:
            try:
                return origin.download(file, force)
            except Absent:
                continue
        return origin.download(files[-1], force)

    return _explained(origin, files[0], lambda: _within(PATIENCE, download))


def _bring(origin, files: list[str], force: bool) -> None:
    """Download those of several small files that the source has; where it cannot be reached, what is cached must do."""
    from paddlemix_qwenvl.hub.sources import is_offline
    from paddlemix_qwenvl.hub.transfer import Absent, Unreachable

    for file in files:
        if not force and (origin.cached(file) or origin.known_absent(file)):
            continue
        if is_offline():
            return
        try:
            _within(PATIENCE, lambda file=file: origin.download(file, force))
        except DownloadError:
            raise
        except (Unreachable, TimeoutError, concurrent.futures.TimeoutError):
            return
        except (Absent, OSError, ValueError):
            continue


def _find_weights(origin, candidates: list[str], force: bool) -> str:
    """The name of the weights that a model has, of their index if it has one, which is there then."""
    from paddlemix_qwenvl.hub.transfer import Absent

    if not force:
        for file in candidates:
            if origin.cached(file):
                return file

    def find() -> str:
        for file in candidates:
            try:
                if file.endswith(".json"):
                    origin.download(file, force)
                else:
                    origin.size(file)
            except Absent:
                continue
            return file
        raise Absent(f"it has none of {', '.join(candidates)}")

    return _explained(origin, "the weights", lambda: _within(PATIENCE, find))


def _missing(origin, found: str, force: bool) -> list[str]:
    """The weight files to be downloaded; those that are not the source's have been taken out of the cache."""
    names = _named(origin, found)
    if not force and all(map(origin.cached, names)):
        return []
    if names != [found] and _explained(origin, found, lambda: origin.differs(found)):
        _explained(origin, found, lambda: origin.download(found, force=True))
        names = _named(origin, found)
    for name in names:
        if origin.cached(name) and _explained(origin, name, lambda name=name: origin.differs(name)):
            origin.discard(name)
    return [name for name in names if force or not origin.cached(name)]


def _named(origin, found: str) -> list[str]:
    """The weight files that an index names, or the one file that there is."""
    if not found.endswith(".json"):
        return [found]
    return [str(PurePosixPath(found).with_name(name)) for name in files_of_index(origin.cached(found))]


def _check_space(origin, files: Iterable[str]) -> None:
    """Raises DownloadError if the disk has not the space for what is to come."""
    needed = sum(
        _explained(origin, file, lambda file=file: _within(PATIENCE, lambda: origin.size(file))) for file in files
    )
    folder = next(parent for parent in (origin.folder, *origin.folder.parents) if os.path.isdir(parent))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"the weights of {origin.name!r} need {needed / 1e9:.1f} GB more, and {folder} has {free / 1e9:.1f} GB left: free "
            f"some, or choose another disk with cache_dir."
        )


def _explained(origin, file: str, call):
    """`call()`, whose failure becomes a DownloadError that says what was tried and what to do."""
    from paddlemix_qwenvl.hub.sources import describe, is_offline, others
    from paddlemix_qwenvl.hub.transfer import Absent, Unreachable

    if is_offline():
        cause, reason = None, "HF_HUB_OFFLINE forbids to download what the cache does not hold"
    else:
        try:
            return call()
        except DownloadError:
            raise
        except (TimeoutError, concurrent.futures.TimeoutError) as error:
            cause, reason = error, f"it gave no answer within {PATIENCE} s"
        except (Absent, OSError, ValueError) as error:
            said = type(error) is OSError or isinstance(error, Absent | Unreachable)
            cause, reason = error, str(error) if said else f"{type(error).__name__}: {error}"
    raise DownloadError(
        f"{file} of {origin.name!r} could not be had. Tried: {describe(origin)}: {reason}. "
        f"Check the name, the network and the proxy settings; or take another source with source={others(origin)} or the "
        f"variable QWENVL_SOURCE; or point {origin.variable} to a mirror; or give the path of a folder that holds the model."
    ) from cause


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
