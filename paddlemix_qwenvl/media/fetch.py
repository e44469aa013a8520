"""Bytes of images and videos: from local files, http(s) addresses and data URIs, and from nowhere else."""

import base64
import binascii
import io
import os
import re
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ..errors import MediaError

CHUNK = 1 << 18
RESERVED = "!#$%&'()*+,/:;=?@[]~"  # of RFC 3986, and "%"
URL_SAFE_BASE64 = str.maketrans("-_", "+/")


def open_source(
    source: str | os.PathLike, *, timeout: float, max_bytes: int, buffer: Callable[[], BinaryIO] = io.BytesIO
) -> BinaryIO:
    """What a path, a file:// or http(s) address or a data URI names, as an open file.

    `buffer` makes the file that a download goes into; `timeout` and `max_bytes` are those of `download`.
    Raises MediaError for what is none of these or cannot be had.
    """
    if not isinstance(source, str | os.PathLike):
        raise MediaError(
            f"{type(source).__name__} is no picture and no video; give a path, an address or a data URI, or for a picture "
            "a PIL image or an array."
        )
    name = os.fsdecode(source)
    if name[:5].lower() == "data:":
        return io.BytesIO(decode_data_uri(name))
    if not name.strip().lower().startswith(("http://", "https://")):
        return open_local(name)
    file = buffer()
    try:
        download(name, file, timeout=timeout, max_bytes=max_bytes)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


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
    """The bytes of `data:<type>;base64,<data>`, in whose base64 line ends, `-` and `_`, percent signs and missing padding
    are understood. Raises MediaError for any other form (RFC 2397 has one without base64)."""
    header, comma, data = uri.partition(",")
    if not comma or not re.search(r";\s*base64\s*$", header, re.IGNORECASE):
        raise MediaError(f"{header[:80]}: expected a data URI of the form data:image/png;base64,<data>.")
    try:
        data = "".join(unquote(data).split()).translate(URL_SAFE_BASE64).rstrip("=")
        return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"{header[:80]}: its base64 data is damaged ({error}).") from error


def download(url: str, into: BinaryIO, *, timeout: float, max_bytes: int) -> None:
    """Writes what an http(s) address answers into `into`.

    The address may be written as browsers show it, see `quote_address`; a user in it is sent as basic authentication.
    `timeout` bounds, in seconds, the wait for the connection and for the answer, and the whole transfer; redirects
    are followed to http(s) addresses only. Raises MediaError when the address does not answer, answers with an
    error, takes too long or has more than `max_bytes` to say.
    """
    deadline = time.monotonic() + timeout
    try:
        with _opener().open(_request(url), timeout=timeout) as response:
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


def quote_address(url: str) -> tuple[str, str]:
    """The address to ask for, and the `user:password` in it: spaces and letters beyond ASCII are quoted as UTF-8, the host
    is written in IDNA, a fragment is left out. What is quoted already stays."""
    parts = urlsplit(url.strip())
    user, _, address = parts.netloc.rpartition("@")
    host = ":".join(part.encode("idna").decode() for part in unquote(address).split(":"))
    path, query = (
        quote(re.sub("%(?![0-9a-fA-F]{2})", "%25", part), safe=RESERVED) for part in (parts.path, parts.query)
    )
    return urlunsplit((parts.scheme, host, path, query, "")), unquote(user)


def _request(url: str) -> urllib.request.Request:
    address, user = quote_address(url)
    request = urllib.request.Request(address, headers={"User-Agent": "paddlemix-qwenvl"})
    if user:
        user = user if ":" in user else f"{user}:"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    return request


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses as browsers show them; a user's password goes to the same host alone."""

    def redirect_request(self, request: urllib.request.Request, *response: Any) -> urllib.request.Request | None:
        if super().redirect_request(request, *response) is None:
            return None
        following = _request(response[-1])
        if following.host == request.host and following.type in (request.type, "https"):
            following.unredirected_hdrs = {**request.unredirected_hdrs, **following.unredirected_hdrs}
        return following


def _opener() -> urllib.request.OpenerDirector:
    """urllib's default opener without ftp and file handlers, so that a redirect cannot reach them."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _Redirects,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener
