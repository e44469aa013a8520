"""A file over HTTP: resumed after an interruption, checked, and whole or not there at all. Imports no more than it sends."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
from filelock import FileLock
from tqdm import tqdm

from paddlemix_qwenvl.errors import DownloadError

TIMEOUT = (10, 30)  # seconds to connect, and until the next bytes come
ATTEMPTS, PAUSE = (
    5,
    1.0,
)  # how often in a row nothing may come; seconds before the second attempt, doubled for each more
CHUNK = 1 << 16  # bytes
SHOWN = 10 << 20  # bytes from which a file has a progress bar

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_WHOLE = {
    "Accept-Encoding": "identity",
    "User-Agent": "paddlemix-qwenvl",
}  # bytes as they lie there, so that they can be counted


class Absent(LookupError):
    """The source was reached and does not have the file; the message says what it said."""


class Unreachable(OSError):
    """The source gave no answer."""


class Interrupted(Unreachable):
    """A transfer that broke off, and may be gone on with."""


@dataclass(frozen=True)
class Remote:
    """A file at its source.

    Attributes:
        size: bytes; None where the source does not say.
        digest: hashlib's name of an algorithm, and the hexadecimal digest of the content; None where the source has none.
        version: differs if the content does, as far as the source says.
    """

    url: str
    size: int | None = None
    digest: tuple[str, str] | None = None
    version: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def matches(self, path: Path) -> bool:
        """Whether a file has this size and digest."""
        if self.size is not None and path.stat().st_size != self.size:
            return False
        return self.digest is None or digest(path, self.digest[0]) == self.digest[1]


def digest(path: Path, algorithm: str) -> str:
    """The hexadecimal digest of a file's content."""
    state = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            state.update(block)
    return state.hexdigest()


def ask(method: str, url: str, headers: dict[str, str] | None = None) -> requests.Response:
    """The response to a small request.

    Raises:
        Absent: status 404.
        Unreachable: no answer.
        OSError: the server refuses.
    """
    try:
        response = requests.request(
            method, url, headers=_WHOLE | (headers or {}), timeout=TIMEOUT, allow_redirects=True
        )
    except (requests.ConnectionError, requests.Timeout) as error:
        raise Unreachable(f"{type(error).__name__}: {error}") from error
    if response.status_code == 404:
        raise Absent("it does not have the file")
    response.raise_for_status()
    return response


def download(remote: Remote, target: Path, lock: Path, replace: bool = False) -> Path:
    """Bring a file to `target`. Processes that want the same one take turns; an interrupted download goes on where it was.

    Args:
        replace: take it anew if one is there, unless its digest says that it is the same.

    Raises:
        Absent: the source does not have it.
        DownloadError: it cannot be written.
        OSError: the source cannot be reached, broke off again and again, or sent something else than it promised.
    """
    with writing(target.parent):
        for folder in (target.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if target.is_file() and (not replace or (remote.digest and remote.matches(target))):
                return target
            part = incomplete(remote, target)
            for other in target.parent.glob(f"{glob.escape(target.name)}.*.incomplete"):
                if other != part:
                    other.unlink()
            _receive(remote, part, target.name)
            _check(remote, part, target.name)
            os.replace(part, target)
    return target


def incomplete(remote: Remote, target: Path) -> Path:
    """Where a file lies until it is whole: of another version, elsewhere, so that no file is made of two."""
    version = hashlib.sha256(f"{remote.version} {remote.digest} {remote.size}".encode()).hexdigest()[:12]
    return target.with_name(f"{target.name}.{version}.incomplete")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Says in words what a disk's refusal means.

    Raises:
        DownloadError: no space left, no permission, or no locks.
    """
    try:
        yield
    except NotImplementedError as error:  # filelock's
        raise DownloadError(
            f"{folder} is on a file system without locks, which processes need that download at once: choose another folder "
            f"with cache_dir."
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            raise DownloadError(
                f"no space is left for {folder} ({error.strerror}): free some, and run it again, which goes on from there; or "
                f"choose another disk with cache_dir."
            ) from error
        if error.errno in _FORBIDDEN:
            raise DownloadError(
                f"{error.filename or folder} cannot be written ({error.strerror}): choose another folder with cache_dir, or "
                f"change its permissions."
            ) from error
        raise


def persist(step: Callable[[], bool], came: Callable[[], int]) -> None:
    """Take a step until it says that it was the last one.

    Args:
        step: may raise `Interrupted`.
        came: the bytes that have come.

    Raises:
        OSError: nothing came `ATTEMPTS` times in a row.
    """
    attempt, reason, most = 0, "the connection was closed", came()
    while attempt < ATTEMPTS:
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            if step():
                return
        except Interrupted as error:
            reason = str(error)
        attempt = 1 if came() > most else attempt + 1
        most = max(most, came())
    raise OSError(
        f"it broke off after {came()} bytes ({reason}); what came is kept, and the next run goes on from there"
    )


def _receive(remote: Remote, part: Path, name: str) -> None:
    """Append to `part` what it lacks."""

    def came() -> int:
        return part.stat().st_size if part.exists() else 0

    def step() -> bool:
        try:
            return _append(remote, part, came(), name)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise Interrupted(f"{type(error).__name__}: {error}") from error
        except requests.HTTPError as error:
            if error.response.status_code not in (408, 429, *range(500, 600)):
                raise
            raise Interrupted(str(error)) from error

    persist(step, came)


def _append(remote: Remote, part: Path, have: int, name: str) -> bool:
    """One request for the bytes from `have` on; whether the file is whole now."""
    if have and have == remote.size:
        return True
    headers = _WHOLE | remote.headers | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(remote.url, headers=headers, timeout=TIMEOUT, stream=True) as response:
        if response.status_code == 404:
            raise Absent("it does not have the file")
        if response.status_code == 416:  # there is more than the source has
            part.unlink()
            return False
        response.raise_for_status()
        if response.status_code != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else remote.size
        if response.status_code == 206 and not have and "Range" in headers:  # other bytes than were asked for
            part.unlink()
            return False
        if remote.size is not None and total != remote.size:
            raise OSError(f"{name} has {total} bytes there, where its source promised {remote.size}: try again later")
        shown = total is not None and total >= SHOWN
        bar = tqdm(desc=name, total=total, initial=have, unit="B", unit_scale=True, disable=None if shown else True)
        with bar, part.open("ab" if have else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    return total is None or part.stat().st_size == total


def _check(remote: Remote, part: Path, name: str) -> None:
    """Raises OSError, and lets go of what came, if it is not what the source promised."""
    if remote.matches(part):
        return
    promised = " ".join(remote.digest or (f"{remote.size} bytes",))
    part.unlink()
    raise OSError(f"{name} came damaged: its source promised {promised}; it was thrown away, so try again")
