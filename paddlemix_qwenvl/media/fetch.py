"""Bytes of images and videos: from local files, http(s) addresses and data URIs, and from nowhere else."""

import base64
import binascii
import re
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from ..errors import MediaError

CHUNK = 1 << 18


def is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def open_local(name: str) -> BinaryIO:
    """The file that a path or a file:// address names, open. Raises MediaError for other schemes and missing files."""
    scheme = re.match(r"([a-zA-Z][\w+.-]+)://", name)
    if scheme and scheme[1].lower() != "file":
        raise MediaError(f"{name}: {scheme[0]} is not supported; give a local file or an http(s) address.")
    try:
        path = Path(name[scheme.end() :] if scheme else name)
        return (path if path.exists() else Path(unquote(str(path)))).open("rb") if scheme else path.open("rb")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MediaError(f"{name[:200]}: {reason}; give a readable file, an http(s) address or a data URI.") from error


def decode_data_uri(uri: str) -> bytes:
    """The bytes of `data:<type>;base64,<data>`. Raises MediaError for any other form."""
    header, comma, data = uri.partition(",")
    if not comma or not header.endswith(";base64"):
        raise MediaError(f"{header[:80]}: expected a data URI of the form data:image/png;base64,<data>.")
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"{header}: its base64 data is damaged ({error}).") from error


def download(url: str, into: BinaryIO, *, timeout: float, max_bytes: int) -> None:
    """Writes what an http(s) address answers into `into`.

    `timeout` bounds, in seconds, the wait for the connection and for the answer, and the whole transfer; redirects
    are followed to http(s) addresses only. Raises MediaError when the address does not answer, answers with an
    error, takes too long or has more than `max_bytes` to say.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "paddlemix-qwenvl"})
    deadline = time.monotonic() + timeout
    try:
        with _opener().open(request, timeout=timeout) as response:
            announced = int(response.headers.get("Content-Length") or 0)
            while announced <= max_bytes and (chunk := response.read1(CHUNK)):
                into.write(chunk)
                announced = max(announced, into.tell())
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not complete after {timeout:g} s; raise the timeout if the server is slow")
            if announced > max_bytes:
                raise OSError(f"over {max_bytes} bytes; raise the cap if the file is wanted")
            if response.length:  # what the header promised and read1, on a cut connection, silently left out
                raise OSError(f"cut off, {response.length} bytes are missing; try again")
    except (OSError, HTTPException, ValueError) as error:
        raise MediaError(f"{url}: download failed: {error}") from error


def _opener() -> urllib.request.OpenerDirector:
    """urllib's default opener without ftp and file handlers, so that a redirect cannot reach them."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener
